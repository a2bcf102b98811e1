"""Prequential code length: what a training run pays for its tokens, each coded before it is learnt.

After "The Universality Lens: Why Even Highly Over-Parametrized Models Learn Well": the log-loss
of a mixture exceeds the best member's by at most the log of that member's prior weight. The loss of
a batch counts only if it was computed before the update on that batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, xlogy
from torch import Tensor

from infoplane.estimators.estimate import Estimate

LENGTH = "prequential_code_length"
REGRET = "prequential_regret"
MIXTURE = "checkpoint_mixture_gain"
VERSION = 1
HORIZON = 20


@dataclass(frozen=True, slots=True)
class PrequentialCode:
    """Running sums of a stream of losses, in the order in which they were paid.

    The trailing mean is token-weighted, and forgets at rate 1 / ``horizon`` per advance. The best
    one is taken from ``horizon`` advances on, when a few batches no longer decide it.

    Attributes:
        horizon: Advances that the trailing mean looks back.
        n: Tokens coded.
        nats: Their code length.
        advances: Calls that counted.
        skipped: Calls left out: loss or token count not finite, or no token.
        decayed_nats: Code length under the trailing weights.
        decayed_n: Tokens under the trailing weights.
        best: Lowest trailing mean so far, nats per token; infinite before ``horizon`` advances.
    """

    horizon: int = HORIZON
    n: float = 0.0
    nats: float = 0.0
    advances: int = 0
    skipped: int = 0
    decayed_nats: float = 0.0
    decayed_n: float = 0.0
    best: float = math.inf

    def __post_init__(self) -> None:
        """Check the horizon.

        Raises:
            ValueError: If it is below 1.
        """
        if self.horizon < 1:
            raise ValueError(f"horizon: expected at least 1, got {self.horizon}")

    def advance(self, mean_loss: float, n: float) -> PrequentialCode:
        """Return the state after ``n`` more tokens of mean loss ``mean_loss`` nats.

        A loss of several ranks is their token-weighted mean. Input that is not finite, or
        without a token, changes nothing but ``skipped``. Cost O(1).
        """
        nats = self.nats + mean_loss * n
        kept = 1.0 - 1.0 / self.horizon
        decayed_nats = kept * self.decayed_nats + mean_loss * n
        if not (n > 0 and all(map(math.isfinite, (self.n + n, nats, decayed_nats)))):
            return replace(self, skipped=self.skipped + 1)
        decayed_n = kept * self.decayed_n + n
        settled = self.advances + 1 >= self.horizon
        return replace(
            self,
            n=self.n + n,
            nats=nats,
            advances=self.advances + 1,
            decayed_nats=decayed_nats,
            decayed_n=decayed_n,
            best=min(self.best, decayed_nats / decayed_n) if settled else self.best,
        )

    @property
    def trailing(self) -> float:
        """Trailing mean loss in nats per token; NaN before the first advance."""
        return self.decayed_nats / self.decayed_n if self.decayed_n > 0 else math.nan

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the state as arrays, from which `from_arrays` restores every bit."""
        counts = [self.horizon, self.advances, self.skipped]
        sums = [self.n, self.nats, self.decayed_nats, self.decayed_n, self.best]
        return {"counts": np.array(counts, np.int64), "sums": np.array(sums, np.float64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> PrequentialCode:
        """Return the state that `to_arrays` stored.

        Raises:
            ValueError: If an array is missing or has another shape.
        """
        shapes = {name: np.shape(array) for name, array in arrays.items()}
        if shapes.get("counts") != (3,) or shapes.get("sums") != (5,):
            raise ValueError(f"arrays: expected counts (3,) and sums (5,), got {shapes}")
        horizon, advances, skipped = np.asarray(arrays["counts"], np.int64).tolist()
        n, nats, decayed_nats, decayed_n, best = np.asarray(arrays["sums"], np.float64).tolist()
        return cls(horizon, n, nats, advances, skipped, decayed_nats, decayed_n, best)


def prequential_code_length(state: PrequentialCode, *, vocabulary: int | None = None) -> Estimate:
    """Return the nats paid for all tokens so far: an exact sum, without a band.

    Null: n ln V, a code that learnt nothing, when ``vocabulary`` is given. No ceiling.

    Undefined: ``"n"`` before the first token.

    Args:
        state: Running sums.
        vocabulary: Number V of tokens.
    """
    if state.advances == 0:
        return _missing("n", 0, LENGTH, {})
    return Estimate(
        value=state.nats,
        unit="nats",
        n=int(state.n),
        estimator=LENGTH,
        version=VERSION,
        null_mean=state.n * math.log(vocabulary) if vocabulary else None,
    )


def prequential_regret(state: PrequentialCode) -> Estimate:
    """Return the nats paid above the best trailing mean: what learning has cost so far.

    Code length - n best, or 0 where the overall mean is lower still (a loss that rose from the
    start). The lowest of noisy means is a little low and the regret a little high, by about
    n s sqrt(ln(advances / horizon) / horizon), s the standard deviation of the loss between
    batches. It grows like that, and no faster, once the loss no longer falls.

    Null: 0, a loss that never changed. No ceiling and no band: it is exact in the losses given.

    Undefined: ``"n"`` before ``horizon`` advances.
    """
    if state.advances < state.horizon:
        return _missing("n", int(state.n), REGRET, {"horizon": state.horizon})
    return Estimate(
        value=max(0.0, state.nats - state.n * state.best),
        unit="nats",
        n=int(state.n),
        estimator=REGRET,
        version=VERSION,
        null_mean=0.0,
        parameters={"horizon": state.horizon},
    )


def checkpoint_mixture_gain(log_probs: Tensor | npt.NDArray[np.floating]) -> Estimate:
    """Return how much a mixture of checkpoints saves over their average, in nats per token.

    Mean loss of the k checkpoints less the loss -ln mean_k p_k of their mixture. The latter is
    at most the best checkpoint's loss + ln k on every token. Never negative.

    Null: 0, equal checkpoints. No ceiling: a token that one checkpoint rules out has no limit.
    Band: 1.96 standard errors of the tokens' gains.

    Undefined: ``"n"`` without tokens, ``"checkpoints"`` with fewer than 2, ``"nan"`` when a
    log-probability is not finite.

    Args:
        log_probs: ln p of the token seen, ``(k, n)``: an array, or a tensor on any device.

    Returns:
        The estimate. Cost O(k n), float64.

    Raises:
        ValueError: If ``log_probs`` has not two dimensions.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs: expected shape (k, n), got {tuple(log_probs.shape)}")
    k, n = log_probs.shape
    parameters = {"checkpoints": k}
    if n == 0 or k < 2:
        return _missing("n" if n == 0 else "checkpoints", n, MIXTURE, parameters)
    values = torch.as_tensor(log_probs).to(torch.float64)
    gains = values.logsumexp(0) - math.log(k) - values.mean(0)
    mean, spread = float(gains.mean()), float(gains.std(correction=1)) if n > 1 else math.inf
    if not (bool(values.isfinite().all()) and math.isfinite(mean)):
        return _missing("nan", n, MIXTURE, parameters)
    error = 1.96 * spread / math.sqrt(n)
    return Estimate(
        value=max(0.0, mean),
        unit="nats",
        n=n,
        estimator=MIXTURE,
        version=VERSION,
        null_mean=0.0,
        band=(mean - error, mean + error) if math.isfinite(error) else None,
        parameters=parameters,
    )


def uniform_code_length(ones: int, zeros: int) -> float:
    """Return the nats of a binary sequence under the mixture with a uniform prior.

    ln[(n + 1) C(n, ones)], whatever the order; Laplace's rule of succession.

    Raises:
        ValueError: If a count is negative.
    """
    return _mixture_code_length(ones, zeros, 1.0)


def kt_code_length(ones: int, zeros: int) -> float:
    """Return the nats of a binary sequence under the Krichevsky-Trofimov mixture, Beta(1/2, 1/2).

    Raises:
        ValueError: If a count is negative.
    """
    return _mixture_code_length(ones, zeros, 0.5)


def plug_in_code_length(ones: int, zeros: int) -> float:
    """Return n times the empirical entropy in nats: the best single member, known only after.

    Raises:
        ValueError: If a count is negative.
    """
    _check_counts(ones, zeros)
    n = ones + zeros
    return float(xlogy(n, n) - xlogy(ones, ones) - xlogy(zeros, zeros))


def uniform_regret_bound(ones: int, zeros: int) -> float:
    """Return min over e of n e - ln w(e) in nats, an upper bound on the uniform prior's regret.

    w(e) is the prior mass of the members within divergence e of the best one. 0 without data.

    Raises:
        ValueError: If a count is negative.
    """
    _check_counts(ones, zeros)
    n = ones + zeros
    if n == 0:
        return 0.0
    share = ones / n

    def bound(log_e: float) -> float:
        e = math.exp(log_e)
        return n * e - math.log(_mass_within(share, e))

    span = (math.log(1e-3 / n), math.log(1e3 / n))
    found = minimize_scalar(bound, bounds=span, method="bounded", options={"xatol": 1e-10})
    return float(found.fun)


def _mixture_code_length(ones: int, zeros: int, prior: float) -> float:
    """Return -ln of Beta(ones + prior, zeros + prior) / Beta(prior, prior)."""
    _check_counts(ones, zeros)
    n = ones + zeros
    seen = gammaln(ones + prior) + gammaln(zeros + prior) - gammaln(n + 2.0 * prior)
    return max(0.0, float(2.0 * gammaln(prior) - gammaln(2.0 * prior) - seen))


def _check_counts(ones: int, zeros: int) -> None:
    if ones < 0 or zeros < 0:
        raise ValueError(f"ones, zeros: expected at least 0, got {ones}, {zeros}")


def _mass_within(share: float, e: float) -> float:
    """Return the length of {p: KL(share || p) <= e}."""

    def excess(p: float) -> float:
        other = 1.0 - share
        divergence = xlogy(share, share) + xlogy(other, other) - xlogy(share, p)
        return float(divergence - xlogy(other, 1.0 - p)) - e

    tiny = 1e-300
    low = 0.0 if share == 0.0 else float(brentq(excess, tiny, share, xtol=1e-16))
    high = 1.0 if share == 1.0 else float(brentq(excess, share, 1.0 - 1e-16, xtol=1e-16))
    return high - low


def _missing(reason: str, n: int, name: str, parameters: Mapping[str, int]) -> Estimate:
    return Estimate.missing(
        reason, unit="nats", n=n, estimator=name, version=VERSION, parameters=parameters
    )
