"""How uncertain comparisons leave the rewards of a linear head (feature form).

Prior w ~ N(0, I / lambda); after comparisons with precision matrix Lambda (`RewardPrecision`)

    Sigma = (lambda I + Lambda)^-1,    Var(r_i - r_j | data) = dphi^T Sigma dphi.

With one-hot phi and lambda -> 0 that is the effective resistance between i and j. Over random
distinct pairs of responses its mean is exactly 2 tr(Sigma Cov phi), Cov with n - 1.

The prior's scale. Embeddings have no natural unit, so lambda is not fixed: it is chosen such that
the mean variance of a reward difference before any comparison equals ``prior_variance``, by
default 4 / beta^2, the variance of one even Bradley-Terry label. This is a unit-information
prior: it weighs as much as one comparison of each pair would. Values then run from 4 / beta^2
(the labels say nothing) to 0 and do not change when the embeddings are scaled, shifted or rotated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.state.precision import RewardPrecision

FloatArray = npt.NDArray[np.float64]

ESTIMATOR = "reward_posterior"
VERSION = 1
PRIOR_LABELS = 4.0
"""Default prior variance of a reward difference, times beta^2: that of one even label."""

# Spread of the embeddings, relative to their mean square, that float64 moments still resolve.
_RESOLVED_SPREAD = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class RewardPosterior:
    """Posterior of a linear reward head.

    Attributes:
        covariance: Sigma, shape ``(k, k)``, in reward^2 / embedding^2.
        prior_precision: lambda.
    """

    covariance: FloatArray
    prior_precision: float

    @classmethod
    def of_precision(cls, precision: FloatArray, prior_precision: float) -> RewardPosterior:
        """Invert lambda I + Lambda; cost O(k^3).

        Args:
            precision: Lambda, shape ``(k, k)``, positive semi-definite.
            prior_precision: lambda, positive. By eigenvalues, so that 1e-9 still is exact to
                about 1e-7 in the directions that Lambda sees.

        Raises:
            ValueError: If lambda is not a positive number.
        """
        if not (math.isfinite(prior_precision) and prior_precision > 0):
            raise ValueError(f"prior_precision: expected a positive number, got {prior_precision}")
        values, vectors = np.linalg.eigh((precision + precision.T) / 2.0)
        scaled = vectors / np.sqrt(np.maximum(values, 0.0) + prior_precision)
        return cls(scaled @ scaled.T, prior_precision)

    def pair_variance(self, dphi: npt.NDArray[np.floating]) -> FloatArray:
        """Return Var(r_i - r_j | data) of rows dphi = phi_i - phi_j, ``(m, k)`` -> ``(m,)``."""
        rows = np.asarray(dphi, np.float64)
        return np.asarray(np.einsum("mk,mk->m", rows @ self.covariance, rows))

    def mean_pair_variance(self, spread: FloatArray) -> float:
        """Return the mean over random distinct pairs of responses, 2 tr(Sigma Cov phi).

        Args:
            spread: Unbiased covariance of the responses' embeddings, shape ``(k, k)``.
        """
        return float(2.0 * np.sum(self.covariance * spread))


def reward_posterior_variance(
    state: RewardPrecision, *, prior_variance: float | None = None
) -> Estimate:
    """Return the mean posterior variance of a reward difference, in reward^2.

    Over random distinct pairs of the state's responses, each counted once per appearance. Falls
    about as 4 k / m beta^2 with m even comparisons in k well-covered dimensions. Ceiling: the
    prior variance, reached when the labels say nothing. It is the variance of a linear head on
    frozen embeddings with the state's v_e; error of the embeddings themselves is not in it.

    Undefined: ``"n"`` without a comparison, ``"nan"``, ``"constant"`` when all embeddings agree.

    Args:
        state: The comparisons.
        prior_variance: Mean variance of a reward difference before any comparison, reward^2;
            4 / beta^2 when None.

    Returns:
        One estimate. Cost O(k^3): 20 ms at k = 256.

    Raises:
        ValueError: If ``prior_variance`` is not positive and finite.
    """
    prior, parameters = _settings(state, prior_variance)
    value, reason = _mean_variance(state, prior)
    if reason:
        return _missing(reason, state, "1", parameters)
    return Estimate(
        value, "1", state.comparisons, ESTIMATOR, VERSION, ceiling=prior, parameters=parameters
    )


def reward_uncertainty_ratio(
    state: RewardPrecision, *, prior_variance: float | None = None
) -> Estimate:
    """Return the mean posterior variance over the mean squared reward difference.

    Both over random distinct pairs of the same responses; the denominator is 2 var(r), n - 1.
    0: the labels pin the rewards down. 1: what the labels leave open is as large as what the
    rewards claim. It may exceed 1. It does not change when beta and the rewards are rescaled
    together (the default prior scales along).

    Undefined: as `reward_posterior_variance`, and ``"rewards"`` where none are known,
    ``"constant"`` also when all rewards agree.

    Raises:
        ValueError: If ``prior_variance`` is not positive and finite.
    """
    prior, parameters = _settings(state, prior_variance)
    value, reason = _mean_variance(state, prior)
    claimed = 2.0 * float(state.rewards.covariance()[0, 0])
    if not reason and state.rewards.n < 2:
        reason = "rewards"
    if not reason and not math.isfinite(claimed):
        reason = "nan"
    if not reason and claimed <= _RESOLVED_SPREAD * float(state.rewards.outer[0, 0]):
        reason = "constant"
    if reason:
        return _missing(reason, state, "ratio", parameters)
    return Estimate(
        value / claimed, "ratio", state.comparisons, ESTIMATOR, VERSION, parameters=parameters
    )


def _mean_variance(state: RewardPrecision, prior_variance: float) -> tuple[float, str]:
    """Return the mean pair variance, or NaN and why there is none."""
    if state.comparisons < 1:
        return math.nan, "n"
    spread = state.features.covariance()
    if not (np.isfinite(spread).all() and np.isfinite(state.precision).all()):
        return math.nan, "nan"
    total = float(np.trace(spread))
    if total <= _RESOLVED_SPREAD * float(np.trace(state.features.outer)) / state.features.n:
        return math.nan, "constant"
    # The prior's own mean pair variance is 2 tr(Cov) / lambda.
    posterior = RewardPosterior.of_precision(state.precision, 2.0 * total / prior_variance)
    return posterior.mean_pair_variance(spread), ""


def _settings(
    state: RewardPrecision, prior_variance: float | None
) -> tuple[float, dict[str, float | int | str]]:
    beta = state.noise.beta
    prior = PRIOR_LABELS / beta**2 if prior_variance is None else prior_variance
    if not (math.isfinite(prior) and prior > 0):
        raise ValueError(f"prior_variance: expected a positive number, got {prior}")
    return prior, {
        "k": state.k,
        "prior_variance": prior,
        "beta": beta,
        "edge_noise": state.noise.form,
    }


def _missing(
    reason: str, state: RewardPrecision, unit: Unit, parameters: dict[str, float | int | str]
) -> Estimate:
    return Estimate.missing(
        reason,
        unit=unit,
        n=state.comparisons,
        estimator=ESTIMATOR,
        version=VERSION,
        parameters=parameters,
    )
