"""Where a shot was, from the moments at which several devices heard it: time differences of arrival.

A device at `s_i` hears a shot of place `p` and moment `t` at `t_i = t + |p - s_i| / c`. Place, moment and speed of
sound are fitted to all arrivals by weighted non-linear least squares (Foy, "Position-location solutions by
Taylor-series estimation", 1976; damped as Levenberg 1944 and Marquardt 1963), each arrival weighted by what is known of
its clock, its onset and its device's place.

A device behind a corner hears an echo, which is late, and one whose clock lies tells anything. Which ones do is not
known. So every set of few odd devices is a hypothesis, fitted on its own with little weight for the odd ones; and since
least squares tells only where the good places are, not how good each is, places drawn around all of them (Student's t
about each fit) are weighed by the full likelihood, in which each arrival is direct, an echo or wrong (importance
sampling: MacKay, "Information Theory, Inference, and Learning Algorithms", 2003, ch. 29). The place is their mean, and
the ellipse is drawn around 95 % of them: where two places explain the arrivals equally well it holds both, and where it
grows too large the place is refused.

Known failures: a second shot within the same second elsewhere; echoes at most devices; refraction over warm asphalt.
Three devices can be fitted by a place whatever they heard, so their ellipse is large by what an echo could have done.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Why there is no place.
Unlocated = Literal["few-devices", "geometry", "no-fit"]

#: Fewest devices: two differences of arrival for two coordinates.
LEAST_DEVICES = 3
#: Most devices that are looked at, the first to hear it: they stand nearest, and the number of hypotheses is bounded.
MOST_DEVICES = 10
#: Half axis of an ellipse that still says where it was, metres: beyond that it names a quarter, not a street.
MOST_M = 200.0
PROBABILITY = 0.95

#: How probable it is, before any arrival is known, that a device hears the direct sound, an echo, or tells anything.
_DIRECT, _ECHO, _WRONG = 0.84, 0.15, 0.01
#: Mean lateness of an echo, seconds, and its distribution is exponential: the way to the far side of a street and back
#: is 10 to 60 m longer, and what comes much later is fainter.
_ECHO_S = 0.08
#: What is wrong is wrong within the second in which arrivals are put together.
_WRONG_S = 1.0
#: The odd ones in the fits, which only have to find places: late by so much, with such a standard deviation, seconds.
_ODD_S, _ODD_SPREAD_S = 0.06, 0.12
_MOST_ODD = 3
#: How far wind along the way and a thermometer at another place put the speed of sound off: 5 m/s of wind are 1.5 %.
_SPEED_ERROR = 0.015
#: A muzzle is lower than the microphone on its mast, metres.
_HEIGHT_M = 3.0
#: Whoever hears it stands around it: before any arrival the place is expected within the extent of the devices, and
#: within this where they stand close together, metres.
_LEAST_REACH_M = 100.0
_ROUNDS = 25
_GRID = 33
_DRAWS = 4000
#: Degrees of freedom of the draws: heavy tails, since a bent valley reaches beyond its best point's ellipse.
_FREEDOM = 4
#: Fits that weigh less than this beside the best one are left out.
_NEGLIGIBLE = 1e-4
#: The logistic function of 1.702 x is within 0.01 of the normal distribution function of x.
_LOGISTIC = 1.702
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one device heard.

    Attributes:
        x: Its place, metres east of any origin.
        y: Its place, metres north of it.
        time: When the sound began there, seconds on a clock that all devices share.
        error_s: Standard deviation of that moment by its clock and its onset, seconds.
    """

    x: float
    y: float
    time: float
    error_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sound was, and the ellipse that holds it with a probability of `PROBABILITY`.

    Attributes:
        x: Centre of the ellipse, metres east.
        y: Metres north.
        time: When it was made, seconds on the clock of the arrivals.
        semi_major_m: Longer half axis, metres.
        semi_minor_m: Shorter half axis, metres.
        azimuth_deg: Direction of the longer axis, degrees from north over east, 0 to 180.
        direct: Whether each arrival is taken for the direct sound, in their order.
    """

    x: float
    y: float
    time: float
    semi_major_m: float
    semi_minor_m: float
    azimuth_deg: float
    direct: tuple[bool, ...]

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in the ellipse."""
        azimuth = math.radians(self.azimuth_deg)
        east, north = x - self.x, y - self.y
        along = east * math.sin(azimuth) + north * math.cos(azimuth)
        across = east * math.cos(azimuth) - north * math.sin(azimuth)
        return math.hypot(along / self.semi_major_m, across / self.semi_minor_m) <= 1.0


def speed_of_sound(temperature_c: float) -> float:
    """Speed of sound in air, m/s: that of an ideal gas, 331.3 m/s at 0 °C (ISO 9613-1; humidity adds 0.4 % at most)."""
    return 331.3 * math.sqrt(1.0 + temperature_c / 273.15)


def locate(
    arrivals: Sequence[Arrival], temperature_c: float, *, position_error_m: float = 1.0, most_m: float = MOST_M
) -> Place | Unlocated:
    """Where a sound was.

    Args:
        arrivals: One of each device.
        temperature_c: Of the air.
        position_error_m: Standard deviation of the places of the devices, metres.
        most_m: Longest half axis of an ellipse that still says where it was, metres.

    Returns:
        The place, or why there is none: fewer than three devices; devices that see the place at an angle too flat, or
        two places that fit equally well; arrivals that no single sound explains.
    """
    if len(arrivals) < LEAST_DEVICES:
        return "few-devices"
    order = sorted(range(len(arrivals)), key=lambda i: arrivals[i].time)[:MOST_DEVICES]
    heard = [arrivals[i] for i in order]
    speed = speed_of_sound(temperature_c)
    first = heard[0].time
    scene = _Scene(
        np.array([(a.x, a.y) for a in heard]),
        speed * np.array([a.time - first for a in heard]),
        np.hypot(speed * np.array([a.error_s for a in heard]), position_error_m),
        speed,
    )
    drawn, weights = _weigh(scene, _fit(scene))
    centre = np.asarray(weights @ drawn)
    direct = np.asarray(weights @ _kinds(scene, drawn)[0]) > 0.5
    if direct.sum() < LEAST_DEVICES:
        return "no-fit"
    ellipse = _ellipse(drawn[:, :2] - centre[:2], weights)
    # Where the arrivals hardly narrow what was expected before them, it is the expectation that would be told.
    if ellipse is None or ellipse[0] > min(most_m, scene.reach):
        return "geometry"
    is_direct = dict(zip(order, direct.tolist(), strict=True))
    return Place(
        float(centre[0]),
        float(centre[1]),
        first + float(centre[2]) / speed,
        *ellipse,
        tuple(is_direct.get(i, False) for i in range(len(arrivals))),
    )


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is given, in metres: N devices.

    Attributes:
        sites: (N, 2), places of the devices.
        ways: (N,), arrivals after the first one, times the speed of sound.
        errors: (N,), their standard deviations.
        speed: Of sound, m/s.
    """

    sites: Array
    ways: Array
    errors: Array
    speed: float

    @property
    def middle(self) -> Array:
        """(2,), centre of the devices."""
        return np.asarray(self.sites.mean(axis=0))

    @property
    def reach(self) -> float:
        """Standard deviation of the place before any arrival."""
        return max(float(np.ptp(self.sites, axis=0).max()), _LEAST_REACH_M)

    def prior(self) -> tuple[Array, Array]:
        """What is known beforehand of east, north, moment and slowness: expectations and reciprocal errors, (4,)."""
        return np.append(self.middle, [0.0, 0.0]), np.array([1 / self.reach, 1 / self.reach, 0.0, 1 / _SPEED_ERROR])

    def late(self, at: Array) -> tuple[Array, Array, Array]:
        """How late arrivals are if the sound was made at `at`, (B, 4).

        Returns:
            (B, N) lateness; (B, N, 2) ways from the devices; (B, N) distances, all in metres.
        """
        way = at[:, None, :2] - self.sites
        distance = np.sqrt(np.square(way).sum(axis=2) + _HEIGHT_M**2)
        return self.ways - at[:, 2:3] - distance * (1.0 + at[:, 3:4]), way, distance


@dataclass(frozen=True, slots=True)
class _Fits:
    """Least squares of B hypotheses and starts.

    Attributes:
        at: (B, 4): east, north, way of the sound at the first arrival (all metres), relative slowness of the air.
        covariance: (B, 4, 4) of it.
        weight: (B,), share of the evidence; they sum to 1.
    """

    at: Array
    covariance: Array
    weight: Array


def _fit(scene: _Scene) -> _Fits:
    """Fit every set of few odd devices from its best two starts, all at once."""
    count = len(scene.ways)
    most = min(_MOST_ODD, max(1, count - LEAST_DEVICES))
    sets = [odd for size in range(most + 1) for odd in itertools.combinations(range(count), size)]
    is_odd = np.array([[i in odd for i in range(count)] for odd in sets])
    expected_late = np.where(is_odd, _ODD_S * scene.speed, 0.0)
    error = np.where(is_odd, np.hypot(scene.errors, _ODD_SPREAD_S * scene.speed), scene.errors)
    at = _starts(scene, expected_late, error)
    is_odd, expected_late, error = (np.tile(each, (2, 1)) for each in (is_odd, expected_late, error))
    expected, certainty = scene.prior()

    def residuals(theta: Array) -> tuple[Array, Array]:
        late, way, distance = scene.late(theta)
        slowness = 1.0 + theta[:, 3:4]
        slope = np.dstack([way * (slowness / distance)[..., None], np.ones_like(distance), distance])
        rest = np.hstack([(expected_late - late) / error, (theta - expected) * certainty])
        return rest, slope / error[..., None]

    def normal(slope: Array) -> Array:
        return np.asarray(np.einsum("bni,bnj->bij", slope, slope) + np.diag(certainty**2))

    rest, slope = residuals(at)
    cost = np.square(rest).sum(axis=1)
    damping = np.full(len(at), 1e-3)
    for _ in range(_ROUNDS):
        matrix = normal(slope)
        gradient = np.einsum("bni,bn->bi", slope, rest[:, :-4]) + certainty * rest[:, -4:]
        damped = matrix + (damping[:, None] * np.einsum("bii->bi", matrix))[..., None] * np.eye(4)
        tried = at - np.linalg.solve(damped, gradient[..., None])[..., 0]
        tried_rest, tried_slope = residuals(tried)
        tried_cost = np.square(tried_rest).sum(axis=1)
        better = tried_cost < cost
        at = np.where(better[:, None], tried, at)
        rest = np.where(better[:, None], tried_rest, rest)
        slope = np.where(better[:, None, None], tried_slope, slope)
        cost = np.where(better, tried_cost, cost)
        damping = np.where(better, damping / 5, np.minimum(damping * 5, 1e9))
    covariance = np.linalg.inv(normal(slope))
    # Laplace's approximation.
    prior = is_odd.sum(axis=1) * math.log((1 - _DIRECT) / _DIRECT)
    evidence = prior - cost / 2 - np.log(error).sum(axis=1) + np.linalg.slogdet(covariance)[1] / 2
    weight = np.exp(evidence - evidence.max())
    kept = weight > _NEGLIGIBLE
    return _Fits(at[kept], covariance[kept], weight[kept] / weight[kept].sum())


def _starts(scene: _Scene, expected_late: Array, error: Array) -> Array:
    """Two starts for each hypothesis: the best point of a coarse grid, and the best one that lies elsewhere.

    Args:
        scene: What is given.
        expected_late: (H, N), metres.
        error: (H, N), metres.

    Returns:
        (2 H, 4), first all the best, then all the others.
    """
    axis = np.linspace(-1.5 * scene.reach, 1.5 * scene.reach, _GRID)
    points = scene.middle + np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    left = scene.late(np.column_stack([points, np.zeros((len(points), 2))]))[0]
    weights = 1 / np.square(error)
    total = weights.sum(axis=1)
    moments = (left @ weights.T - (weights * expected_late).sum(axis=1)) / total
    squares = np.square(left) @ weights.T - 2 * left @ (weights * expected_late).T
    squares += (weights * expected_late**2).sum(axis=1)
    cost = squares - total * np.square(moments)
    cost += (np.square(points - scene.middle).sum(axis=1) / scene.reach**2)[:, None]
    best = cost.argmin(axis=0)
    near = np.square(points[:, None] - points[best]).sum(axis=2) < (scene.reach / 2) ** 2
    chosen = np.concatenate([best, np.where(near, np.inf, cost).argmin(axis=0)])
    begin = moments[chosen, np.tile(np.arange(len(error)), 2)]
    return np.column_stack([points[chosen], begin, np.zeros(len(chosen))])


def _weigh(scene: _Scene, fits: _Fits) -> tuple[Array, Array]:
    """Places drawn around the fits, the same ones each time, and how probable each is by the full likelihood.

    Returns:
        (D, 4) as `_Fits.at`; (D,) weights that sum to 1.
    """
    rng = np.random.default_rng(0)
    roots = np.linalg.cholesky(fits.covariance)
    which = rng.choice(len(fits.weight), size=_DRAWS, p=fits.weight)
    scale = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, _DRAWS))
    normal = rng.standard_normal((_DRAWS, 4)) * scale[:, None]
    drawn = fits.at[which] + np.einsum("dij,dj->di", roots[which], normal)
    # Density of the draws: a mixture of Student's t in four dimensions, but for a constant.
    away = np.einsum("bij,dbj->dbi", np.linalg.inv(roots), drawn[:, None] - fits.at)
    density = (1 + np.square(away).sum(axis=2) / _FREEDOM) ** (-(_FREEDOM + 4) / 2)
    density = density @ (fits.weight / np.prod(np.einsum("bii->bi", roots), axis=1))
    expected, certainty = scene.prior()
    log_prior = -np.square((drawn - expected) * certainty).sum(axis=1) / 2
    log_weight = log_prior + np.log(_likelihoods(scene, drawn).sum(axis=0)).sum(axis=1) - np.log(density)
    weights = np.exp(log_weight - log_weight.max())
    return drawn, weights / weights.sum()


def _likelihoods(scene: _Scene, at: Array) -> Array:
    """(3, B, N), likelihood of each arrival as the direct sound, as an echo and as something wrong, per metre."""
    late = scene.late(at)[0]
    echo_m, wrong_m = _ECHO_S * scene.speed, _WRONG_S * scene.speed
    direct = _DIRECT * np.exp(-np.square(late / scene.errors) / 2) / (scene.errors * math.sqrt(2 * math.pi))
    # An exponential that begins as softly as the clock is off.
    begun = np.logaddexp(0.0, -_LOGISTIC * late / scene.errors)
    echo = _ECHO * np.exp(-late / echo_m - begun) / echo_m
    wrong = _WRONG * np.exp(-np.square(late / wrong_m) / 2) / (wrong_m * math.sqrt(2 * math.pi))
    return np.maximum(np.stack([direct, echo, wrong]), _TINY)


def _kinds(scene: _Scene, at: Array) -> Array:
    """(3, B, N), how probable it is that each arrival is direct, an echo or wrong."""
    likelihoods = _likelihoods(scene, at)
    return np.asarray(likelihoods / likelihoods.sum(axis=0))


def _ellipse(drawn: Array, weights: Array) -> tuple[float, float, float] | None:
    """Half axes in metres, and azimuth in degrees, of the ellipse around the origin that holds `PROBABILITY`."""
    covariance = (drawn * weights[:, None]).T @ drawn
    variances, axes = np.linalg.eigh(covariance)
    if not np.isfinite(variances).all() or variances[0] <= 0:
        return None
    far = np.sqrt((np.square(drawn @ axes) / variances).sum(axis=1))
    order = far.argsort()
    reach = far[order][np.searchsorted(weights[order].cumsum(), PROBABILITY).clip(max=len(far) - 1)]
    minor, major = (float(reach) * np.sqrt(variances)).tolist()
    east, north = axes[:, 1].tolist()
    return major, minor, math.degrees(math.atan2(east, north)) % 180.0
