"""Gaussian information bottleneck: what a code of one block must carry to predict another.

For jointly Gaussian X and Y the best code T of X at trade-off beta, maximising
beta I(T;Y) - I(T;X), is a noisy projection on the canonical directions (Chechik et al., "Information
Bottleneck for Gaussian Variables", JMLR 2005). Direction i, of canonical correlation rho_i, is
used only above beta = 1 / rho_i^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.mutual_information.gaussian import gaussian_mi_of_moments
from infoplane.estimators.mutual_information.joint_correlation import (
    joint_correlation,
    whitened_cross,
)
from infoplane.estimators.state.moments import Moments

INFORMATION = "gaussian_predictive_information"
CRITICAL = "gaussian_critical_beta"
RANK = "gaussian_information_rank"
VERSION = 1
LEVEL = 0.01
"""Chance that independent Gaussian blocks show a direction."""
TRACY_WIDOM = 2.0234
"""Quantile 1 - LEVEL of the Tracy-Widom law of real matrices."""


@dataclass(frozen=True, slots=True)
class GaussianBottleneck:
    """Readings of one pair of blocks.

    Attributes:
        predictive_information: I(X;Y) in nats, bias-corrected: the most that any code predicts.
        critical_beta: 1 / rho_1^2, where the first direction switches on; from 1.
        information_rank: Directions that are on at ``beta``.
        squared_correlations: Population rho_i^2 of the directions beyond chance, descending.
    """

    predictive_information: Estimate
    critical_beta: Estimate
    information_rank: Estimate
    squared_correlations: tuple[float, ...]

    def curve(self, betas: Sequence[float]) -> list[tuple[float, float]]:
        """Return (I(T;X), I(T;Y)) in nats of the best code at every trade-off.

        Over directions with beta rho^2 > 1: I(T;X) = sum 1/2 ln[(beta - 1) rho^2 / (1 - rho^2)]
        and I(T;Y) = I(T;X) - sum 1/2 ln(beta rho^2). Concave, of slope 1 / beta. At
        ``math.inf`` the first is infinite and the second the information of the directions
        beyond chance, which is less than `predictive_information` where some is spread too
        thinly to be assigned to directions.

        Args:
            betas: Trade-offs, at least 0.

        Returns:
            One pair per trade-off; an empty list when the readings are undefined.

        Raises:
            ValueError: If a trade-off is negative or NaN.
        """
        for beta in betas:
            if not beta >= 0:
                raise ValueError(f"betas: expected numbers of at least 0, got {beta}")
        if not self.predictive_information.defined:
            return []
        return [_point(beta, self.squared_correlations) for beta in betas]


def gaussian_bottleneck(joint: Moments, width_x: int, *, beta: float = 10.0) -> GaussianBottleneck:
    """Return the Gaussian bottleneck between two blocks of columns.

    Sample correlations are too large, most of all in wide blocks, and are handled in three ways:

    - `predictive_information` is `gaussian_mi_of_moments`, with the exact mean taken off.
    - A direction counts when its root passes Roy's test at level 0.01 given those before it: the
      Tracy-Widom approximation of Johnstone ("Multivariate analysis and Jacobi ensembles",
      Ann. Stat. 2008), the exact Beta law when one block has a single column left.
    - Its rho^2 is the population value r whose sample root is expected at the one observed,
      r (1 - c + c / r) (1 - c' + c' / r) with c = (dx - 1/2) / (n - 1) and c' likewise
      (Bao et al., "Canonical correlation coefficients of high-dimensional Gaussian vectors",
      Ann. Stat. 2019). It holds for few directions; when most directions are correlated, the
      larger read high and the others low, and their sum low.

    Null (analytic): 0 nats with the exact standard deviation; rank 0, exceeded with a chance of
    about 0.01 (measured up to 0.016 from n = 1.5 dx + 1.5 dy on, 0.023 below).

    Ceilings: of the information as in `gaussian_mi`; of the critical beta 1 / rho^2 at the edge
    of the test, beyond which it is undefined; of the rank min(dx, dy), and the rank is
    ``saturated`` when the edge lies above 1 / beta, so that n and not the data limit it. Bands: of
    the information as in `gaussian_mi`; of the others from rho^2 +- 1.96 standard errors
    2 rho (1 - rho^2) / sqrt(n), first order in 1/n.

    Undefined: as `gaussian_mi_of_moments`; the critical beta also ``"null"`` when no direction
    is beyond chance.

    Args:
        joint: Moments of x and y side by side.
        width_x: Columns of x, which come first.
        beta: Trade-off at which directions are counted; part of the rank's identity.

    Returns:
        The readings. Cost O(d^3) in float64, d the joint width.

    Raises:
        ValueError: If ``width_x`` is not within 0 and the joint width, or beta not above 1.
    """
    if not (beta > 1.0 and math.isfinite(beta)):
        raise ValueError(f"beta: expected a number above 1, got {beta}")
    (information,) = gaussian_mi_of_moments([joint], width_x)
    information = replace(information, estimator=INFORMATION, version=VERSION)
    correlation = joint_correlation(joint)
    cross = whitened_cross(correlation.matrix, width_x) if information.defined else None
    if cross is None:
        return _undefined(information, beta)
    dx, dy = (int(part.sum()) for part in np.split(correlation.varies, [width_x]))
    # Columns that do not vary have correlations of zero, which come last.
    roots = np.linalg.svd(cross, compute_uv=False)[: min(dx, dy)] ** 2
    n = correlation.n
    squares = _beyond_chance(np.clip(roots, 0.0, 1.0), dx, dy, n - 1.0)
    edge = _population(_edge(dx, dy, n - 1.0), dx, dy, n - 1.0)
    return GaussianBottleneck(
        information,
        _critical(squares, edge, information),
        _rank(squares, edge, min(dx, dy), beta, information),
        tuple(squares),
    )


def _point(beta: float, squares: Sequence[float]) -> tuple[float, float]:
    on = [square for square in squares if beta * square > 1.0]
    if math.isinf(beta) and on:
        return math.inf, sum(-0.5 * math.log1p(-square) for square in on)
    about_x = sum(0.5 * math.log((beta - 1.0) * s / (1.0 - s)) for s in on)
    about_y = sum(0.5 * math.log((1.0 - 1.0 / beta) / (1.0 - s)) for s in on)
    return about_x, about_y


def _beyond_chance(roots: npt.NDArray[np.float64], dx: int, dy: int, freedom: float) -> list[float]:
    """Return population squares of the leading sample ``roots`` that pass the test."""
    squares: list[float] = []
    for k, root in enumerate(roots.tolist()):
        if not root > _edge(dx - k, dy - k, freedom - k):
            break
        squares.append(min(_population(root, dx, dy, freedom), 1.0 - 1e-14))
    return squares


def _edge(dx: int, dy: int, freedom: float) -> float:
    """Return the largest squared sample correlation that chance explains."""
    low, high = min(dx, dy), max(dx, dy)
    if low == 1:
        return float(betaincinv(high / 2.0, (freedom - high) / 2.0, 1.0 - LEVEL))
    gamma, phi = (2.0 * math.asin(math.sqrt((d - 0.5) / freedom)) for d in (low, high))
    centre = 2.0 * math.log(math.tan((gamma + phi) / 2.0))
    volume = math.sin(gamma + phi) ** 2 * math.sin(gamma) * math.sin(phi)
    scale = (16.0 / (freedom * freedom * volume)) ** (1.0 / 3.0)
    return 1.0 / (1.0 + math.exp(-(centre + scale * TRACY_WIDOM)))


def _population(root: float, dx: int, dy: int, freedom: float) -> float:
    """Return the squared population correlation whose sample root is expected at ``root``."""
    c, e = (dx - 0.5) / freedom, (dy - 0.5) / freedom
    square = (1.0 - c) * (1.0 - e)
    slope = root - c * (1.0 - e) - e * (1.0 - c)
    discriminant = slope * slope - 4.0 * square * c * e
    if slope <= 0 or discriminant < 0:
        return 0.0
    return (slope + math.sqrt(discriminant)) / (2.0 * square)


def _limits(square: float, n: int) -> tuple[float, float]:
    error = 2.0 * math.sqrt(square / n) * (1.0 - square)
    return max(0.0, square - 1.96 * error), min(1.0, square + 1.96 * error)


def _critical(squares: list[float], edge: float, information: Estimate) -> Estimate:
    if not squares or squares[0] <= 0:
        return _like(information, CRITICAL, {}, reason="null")
    low, high = _limits(squares[0], information.n)
    ceiling = 1.0 / max(edge, 1e-300)
    return replace(
        _like(information, CRITICAL, {}),
        value=1.0 / squares[0],
        ceiling=ceiling,
        band=(1.0 / high, min(1.0 / max(low, 1e-300), max(ceiling, 1.0 / squares[0]))),
    )


def _rank(
    squares: list[float], edge: float, widest: int, beta: float, information: Estimate
) -> Estimate:
    limits = [_limits(square, information.n) for square in squares]
    return replace(
        _like(information, RANK, {"beta": beta}),
        value=float(sum(beta * square > 1.0 for square in squares)),
        null_mean=0.0,
        ceiling=float(widest),
        saturated=beta * edge > 1.0,
        band=(
            float(sum(beta * low > 1.0 for low, _ in limits)),
            float(sum(beta * high > 1.0 for _, high in limits)),
        ),
    )


def _like(
    information: Estimate, name: str, settings: dict[str, float], *, reason: str = ""
) -> Estimate:
    """Return a record of unit 1 with the rows and widths of ``information``, without a value."""
    unit: Unit = "1"
    missing = Estimate.missing(
        reason or "n",
        unit=unit,
        n=information.n,
        estimator=name,
        version=VERSION,
        parameters={**information.parameters, "level": LEVEL, **settings},
    )
    return missing if reason else replace(missing, undefined="")


def _undefined(information: Estimate, beta: float) -> GaussianBottleneck:
    reason = information.undefined
    return GaussianBottleneck(
        information,
        _like(information, CRITICAL, {}, reason=reason),
        _like(information, RANK, {"beta": beta}, reason=reason),
        (),
    )
