"""Precision of a linear reward model after comparisons: one additive k x k matrix.

A reward head r = w . phi with a comparison e of responses i and j says, by Laplace's
approximation, as much about w as a Gaussian reading of dphi . w (dphi = phi_i - phi_j) with some
variance v_e. The sum of dphi dphi^T / v_e is all that the posterior covariance needs: the feature
form of the induced Bayesian network of Qiu et al., "Reward Generalization in RLHF: A Topological
Perspective"; with one-hot phi it is the graph's Laplacian.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from infoplane.estimators.state.moments import Moments

FloatArray = npt.NDArray[np.float64]
NoiseForm = Literal["bt_fisher", "logistic_var"]

# Rows that are widened to float64 at a time: bounds the memory of long histories.
_BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class EdgeNoise:
    """How much one comparison says about a difference of rewards.

    Labels follow Bradley and Terry: P(i beats j) = s = sigma(beta (r_i - r_j)).

    Attributes:
        form: ``"bt_fisher"``: precision beta^2 s (1 - s), the label's Fisher information, at
            most beta^2 / 4. ``"logistic_var"``: 3 beta^2 / pi^2, one over the variance of the
            logistic noise in the margin, the paper's rule; it takes the margin to be seen.
        beta: Slope, per unit of reward.
    """

    form: NoiseForm = "bt_fisher"
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: If the form is unknown or ``beta`` is not positive and finite.
        """
        if self.form not in get_args(NoiseForm):
            raise ValueError(f"form: expected one of {get_args(NoiseForm)}, got {self.form!r}")
        if not (np.isfinite(self.beta) and self.beta > 0):
            raise ValueError(f"beta: expected a positive number, got {self.beta}")

    def precision(
        self, weight: npt.NDArray[Any], difference: npt.NDArray[Any] | None = None
    ) -> FloatArray:
        """Return 1 / v_e of every comparison, shape ``(m,)``, in 1 / reward^2.

        Args:
            weight: Weights, ``(m,)``; a weight of 2 counts as two comparisons.
            difference: r_i - r_j, ``(m,)``; s = 1/2 where it is None or not finite.
        """
        labels = np.asarray(weight, np.float64) * self.beta**2
        if self.form == "logistic_var":
            return labels * (3.0 / np.pi**2)
        if difference is None:
            return labels * 0.25
        margin = np.abs(np.nan_to_num(self.beta * difference, nan=0.0, posinf=0.0, neginf=0.0))
        odds = np.exp(-margin)  # of the less likely outcome; never overflows
        return labels * odds / np.square(1.0 + odds)


@dataclass(frozen=True, slots=True, eq=False)
class RewardPrecision:
    """What comparisons say about a linear reward, and the spread of responses and rewards.

    Merging adds, hence is associative and commutative up to float64 rounding (about 1e-15
    relative, exact for ``comparisons`` and ``dropped``). Memory: 16 (k^2 + k) bytes.

    A response counts once for every comparison that it appears in.

    Attributes:
        precision: Lambda, sum of dphi dphi^T / v_e, shape ``(k, k)``, float64.
        features: Moments of the embeddings of the responses, width k.
        rewards: Moments of their rewards, width 1; none where rewards are not known.
        comparisons: Comparisons that Lambda holds.
        dropped: Comparisons left out: features not finite, or a weight not positive.
        noise: What v_e is.
    """

    precision: FloatArray
    features: Moments
    rewards: Moments = field(default_factory=lambda: Moments.zero(1))
    comparisons: int = 0
    dropped: int = 0
    noise: EdgeNoise = field(default_factory=EdgeNoise)

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: If ``precision`` is not ``(k, k)`` for features of width k.
        """
        object.__setattr__(self, "precision", np.asarray(self.precision, np.float64))
        if self.precision.shape != (self.features.d, self.features.d) or self.rewards.d != 1:
            raise ValueError(
                f"precision: expected shape (k, k) for features of width k and rewards of width "
                f"1, got {self.precision.shape}, {self.features.d} and {self.rewards.d}"
            )

    @classmethod
    def zero(cls, k: int, noise: EdgeNoise | None = None) -> RewardPrecision:
        """Return the state of no comparisons: the identity of `merge`."""
        return cls(np.zeros((k, k)), Moments.zero(k), noise=noise or EdgeNoise())

    @classmethod
    def of_comparisons(
        cls,
        winner: npt.NDArray[Any],
        loser: npt.NDArray[Any],
        *,
        weight: npt.NDArray[Any] | None = None,
        reward_winner: npt.NDArray[Any] | None = None,
        reward_loser: npt.NDArray[Any] | None = None,
        noise: EdgeNoise | None = None,
    ) -> RewardPrecision:
        """Add up comparisons; cost O(m k^2), float64, in blocks of 8192 rows.

        Args:
            winner: Embeddings of the preferred responses, shape ``(m, k)``.
            loser: Embeddings of the others, ``(m, k)``.
            weight: Weights, ``(m,)``; 1 each when None.
            reward_winner: Rewards of the preferred responses, ``(m,)``.
            reward_loser: Rewards of the others; both or none. A pair with a reward that is not
                finite counts as one whose rewards are not known.
            noise: What v_e is; Fisher information with beta = 1 when None.

        Raises:
            ValueError: If shapes disagree or only one of the rewards is given.
        """
        noise = noise or EdgeNoise()
        w = np.ones(len(winner)) if weight is None else np.asarray(weight, np.float64)
        _check_shapes(winner, loser, w, reward_winner, reward_loser)
        kept = np.isfinite(w) & (w > 0)
        kept &= np.isfinite(winner).all(axis=1) & np.isfinite(loser).all(axis=1)
        difference, rewards = None, Moments.zero(1)
        if reward_winner is not None and reward_loser is not None:
            ends = np.stack([reward_winner, reward_loser], axis=1).astype(np.float64)
            ends = np.where(np.isfinite(ends).all(axis=1, keepdims=True), ends, np.nan)[kept]
            difference = ends[:, 0] - ends[:, 1]
            rewards = Moments.of_rows(ends[np.isfinite(difference)].reshape(-1, 1))
        k = winner.shape[1]
        total, features = np.zeros((k, k)), Moments.zero(k)
        edge = noise.precision(w[kept], difference)
        rows = np.flatnonzero(kept)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            a = winner[rows[block]].astype(np.float64)
            b = loser[rows[block]].astype(np.float64)
            scaled = (a - b) * np.sqrt(edge[block])[:, None]
            total += scaled.T @ scaled
            features += Moments.of_rows(np.concatenate([a, b]))
        return cls(total, features, rewards, len(rows), int(kept.size - len(rows)), noise)

    @property
    def k(self) -> int:
        """Width of an embedding."""
        return self.features.d

    def merge(self, other: RewardPrecision) -> RewardPrecision:
        """Return what `of_comparisons` gives for both sets of comparisons together.

        Raises:
            ValueError: If the widths or the noise differ.
        """
        if self.noise != other.noise:
            raise ValueError(f"noise: cannot merge {self.noise} and {other.noise}")
        return RewardPrecision(
            self.precision + other.precision if self.k == other.k else self.precision,
            self.features.merge(other.features),  # refuses other widths
            self.rewards.merge(other.rewards),
            self.comparisons + other.comparisons,
            self.dropped + other.dropped,
            self.noise,
        )

    __add__ = merge


def _check_shapes(
    winner: npt.NDArray[Any],
    loser: npt.NDArray[Any],
    weight: FloatArray,
    reward_winner: npt.NDArray[Any] | None,
    reward_loser: npt.NDArray[Any] | None,
) -> None:
    if winner.ndim != 2 or winner.shape != loser.shape or weight.shape != winner.shape[:1]:
        raise ValueError(
            f"winner, loser, weight: expected shapes (m, k), (m, k), (m,), got "
            f"{winner.shape}, {loser.shape}, {weight.shape}"
        )
    if (reward_winner is None) != (reward_loser is None):
        raise ValueError("reward_winner, reward_loser: expected both or none")
    for one in (reward_winner, reward_loser):
        if one is not None and one.shape != weight.shape:
            raise ValueError(f"rewards: expected shape {weight.shape}, got {one.shape}")
