"""The noise has the distribution that it claims."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import pytest

from agent.relay.laplace import discrete_laplace


@pytest.mark.parametrize("epsilon", [Fraction(1, 2), Fraction(1), Fraction(3, 10), Fraction(5, 2)])
def test_its_frequencies_are_those_of_the_discrete_laplace(epsilon: Fraction) -> None:
    """Pearson's chi-square against the exact probabilities; a right sampler fails once in a million seeds."""
    draws, generator = 20_000, random.Random(7)
    found = Counter(discrete_laplace(epsilon, generator.randrange) for _ in range(draws))
    decay = math.exp(-epsilon)
    expected = {0: draws * (1 - decay) / (1 + decay)}
    size = 1
    while (each := expected[0] * decay**size) >= 10:
        expected[size] = expected[-size] = each
        size += 1
    rest = draws - sum(expected.values())
    beyond = draws - sum(found[value] for value in expected)
    chi2 = sum((found[value] - each) ** 2 / each for value, each in expected.items()) + (beyond - rest) ** 2 / rest
    freedom = len(expected)
    # Wilson and Hilferty's approximation of the upper quantile; 4.75 is the normal one.
    assert chi2 < freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3


def test_by_itself_it_draws_from_the_operating_system() -> None:
    draws = [discrete_laplace(Fraction(1, 10)) for _ in range(400)]
    assert len(set(draws)) > 20
    assert abs(sum(draws) / len(draws)) < 5  # the mean has a standard deviation of 0.7
