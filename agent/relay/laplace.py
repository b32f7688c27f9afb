"""Discrete Laplace noise, exact to the last bit.

Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, algorithms 1 and 2.
Everything is a comparison of integers from the operating system's generator (`secrets`): there is no floating-point
number whose low bits could tell the truth behind the noise (Mironov, "On significance of the least significant bits
for differential privacy", CCS 2012).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from fractions import Fraction

#: Draws an integer from 0 up to, but not including, its argument; all alike.
Below = Callable[[int], int]


def discrete_laplace(epsilon: Fraction, below: Below = secrets.randbelow) -> int:
    """An integer `x` with probability proportional to `exp(-epsilon * |x|)`.

    Added to a count that one person changes by at most one, it makes the count `epsilon`-differentially private.

    Args:
        epsilon: Greater than 0.
        below: The source of randomness.
    """
    s, t = epsilon.numerator, epsilon.denominator
    while True:
        u = below(t)
        if not _bernoulli_exp(Fraction(u, t), below):
            continue
        v = 0
        while _bernoulli_exp(Fraction(1), below):
            v += 1
        size = (u + t * v) // s
        negative = below(2) == 1
        if not (negative and size == 0):
            return -size if negative else size


def _bernoulli_exp(gamma: Fraction, below: Below) -> bool:
    """True with probability `exp(-gamma)`, for `gamma` from 0 to 1: the parity of a run of ever rarer successes."""
    k = 1
    while below(gamma.denominator * k) < gamma.numerator:
        k += 1
    return k % 2 == 1
