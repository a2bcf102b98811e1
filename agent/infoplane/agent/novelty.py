"""Rows chosen by novelty, beside those chosen by key.

    candidates   the K = min(4 k, N) rows with the smallest keys, of the N rows of the micro-batch
    novelty      of a candidate: distance in the projected space to the nearest of m reference rows,
                 at the scoring tap, the first tap that fires
    certain      the c most novel candidates
    rest         the k - c smallest keys among the other candidates

A row is a candidate with probability K / N. Given the candidates, the certain ones are in for sure, and the rest is a
simple random sample of k - c out of K - c, as keys know nothing of content. So

    inclusion = K / N                        certain rows
                K / N * (k - c) / (K - c)    the rest

and the sum of y / inclusion over the sample is unbiased for the sum of y over all N rows (double expansion; Sarndal,
Swensson and Wretman, Model Assisted Survey Sampling, 1992, chapter 9).

The k - c rows of the sample with the smallest keys are those of all N rows: each of these is either certain, or among
the k - c smallest of the rest. So a uniform sample stays, that of the plain rule with k - c in place of k.

Shapes are fixed and nothing is read back to the host. Equal novelties (one token twice in `embed`) go to the lower
position: going by keys would make the rest depend on content.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch

from infoplane.agent.counters import Counters
from infoplane.agent.directives import Reference
from infoplane.agent.identity import Coordinates
from infoplane.agent.projection import Projection
from infoplane.agent.sampling import RowSampling
from infoplane.agent.taps import Tap

CANDIDATES: Final = 4  # times k
NOTE: Final = "novelty"  # in Capture.notes: version of the reference that chose rows, 0 = none did
REGION: Final = "inclusion"
_MAX_ERRORS: Final = 3
_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class Choice:
    """The sampled rows of a step.

    Attributes:
        keys: int64 (k,), ascending.
        index: int64 (k,), positions among this rank's rows.
        inclusion: float32 (k,), probabilities of being in the sample.
        version: of the reference that chose; 0: all were chosen by key.
    """

    keys: torch.Tensor
    index: torch.Tensor
    inclusion: torch.Tensor
    version: int


class NoveltySampling:
    """Chooses the rows of a step when the scoring tap fires; by key alone where that cannot be done.

    Args:
        sampling: the rule by keys.
        projection: builds R.
        num_novel: c.
        tap: name of the scoring tap.
        counters: takes `novelty_skipped` by reason, and `novelty_errors`.
    """

    def __init__(
        self,
        sampling: RowSampling,
        projection: Projection,
        num_novel: int,
        tap: str,
        counters: Counters,
    ) -> None:
        self.tap = tap
        self.num_novel = num_novel
        self.num_uniform = sampling.rows_per_step - num_novel
        self._sampling = sampling
        self._projection = projection
        self._counters = counters
        self._reference: Reference | None = None
        self._known: torch.Tensor | None = None
        self._errors = 0

    @property
    def version(self) -> int:
        """Return the version of the reference in force; 0 without one."""
        return self._reference.version if self._reference else 0

    def adopt(self, reference: Reference | None) -> None:
        """Choose by `reference` from now on; it goes to the device when it is first needed."""
        self._reference, self._known, self._errors = reference, None, 0

    def pick(
        self,
        step: int,
        num_rows: int,
        device: torch.device,
        length: int = 0,
        scored: torch.Tensor | None = None,
    ) -> Choice:
        """Return the sample; `scored` are the scoring tap's rows (N, d), None when another tap asks.

        Cost of the choice beyond that by keys: 8 k d r + 8 k m r flop. No host sync, no random state.
        """
        reason = self._obstacle(num_rows, scored)
        if not reason and scored is not None and self._reference is not None:
            try:
                return self._by_novelty(step, num_rows, device, length, scored, self._reference)
            except Exception as error:  # noqa: BLE001 - the tap itself goes on, with a plain sample
                self._errors += 1
                self._counters.add("novelty_errors", type(error).__name__)
        elif reason != "no_reference":
            self._counters.add("novelty_skipped", reason)
        keys, index = self._sampling.pick(step, 0, num_rows, device, length)
        probability = keys.shape[0] / max(num_rows, 1)
        return Choice(keys, index, torch.full(keys.shape, probability, device=device), 0)

    def _obstacle(self, num_rows: int, scored: torch.Tensor | None) -> str:
        """Return why rows cannot be chosen by novelty in this step; empty: they can."""
        if self._reference is None:
            return "no_reference"
        if self._errors >= _MAX_ERRORS:
            return "errors"
        if num_rows <= self._sampling.rows_per_step:
            return "all_rows"
        if scored is None:
            return "other_tap"
        return "" if scored.shape[1] == self._reference.width else "width"

    def _by_novelty(
        self,
        step: int,
        num_rows: int,
        device: torch.device,
        length: int,
        scored: torch.Tensor,
        reference: Reference,
    ) -> Choice:
        k, c = self._sampling.rows_per_step, self.num_novel
        keys, index = self._sampling.pick(step, 0, num_rows, device, length, CANDIDATES * k)
        size = keys.shape[0]
        matrix = self._projection.matrix(scored.shape[1], device)
        is_certain = most_novel(index, scored, matrix, self._on_device(reference, device), c)
        chosen = _smallest(is_certain, k, c)
        part = size / num_rows
        certain = torch.full((k,), part, device=device)
        rest = torch.full((k,), part * (k - c) / (size - c), device=device)
        inclusion = torch.where(is_certain[chosen], certain, rest)
        return Choice(keys[chosen], index[chosen], inclusion, reference.version)

    def _on_device(self, reference: Reference, device: torch.device) -> torch.Tensor:
        if self._known is None or self._known.device != device:
            rows = torch.from_numpy(reference.rows)
            if device.type == "cuda":
                rows = rows.pin_memory()  # so that the copy does not wait for the device
            self._known = rows.to(device, non_blocking=True)
        return self._known


def most_novel(
    index: torch.Tensor, rows: torch.Tensor, matrix: torch.Tensor, known: torch.Tensor, count: int
) -> torch.Tensor:
    """Return which candidates are the `count` farthest from the reference, bool (K,).

    Args:
        index: positions of the candidates, int64 (K,).
        rows: x, (N, d), any float type.
        matrix: R, float32 (d, r).
        known: reference rows, float32 (m, r).
        count: c.
    """
    place = index.argsort()  # by position, so that nothing below depends on the order of keys
    novelty = distances(rows.index_select(0, index[place]).float() @ matrix, known)
    order = novelty.argsort(descending=True, stable=True)
    is_certain = torch.zeros_like(index, dtype=torch.bool)
    return is_certain.index_fill_(0, place[order[:count]], True)


def distances(y: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of every row of `y` (K, r) to the nearest row of `known` (m, r), float32 (K,).

    A row that is not finite is infinitely far from everything.
    """
    nearest = known.square().sum(1) - 2.0 * (y @ known.t())
    squared = y.square().sum(1) + nearest.amin(dim=1)
    return torch.nan_to_num(squared, nan=torch.inf, posinf=torch.inf, neginf=torch.inf)


def _smallest(is_certain: torch.Tensor, k: int, c: int) -> torch.Tensor:
    """Return the places of the sample among candidates in order of keys, int64 (k,), ascending."""
    size = is_certain.shape[0]
    place = torch.arange(size, device=is_certain.device)
    rest = torch.topk(place + size * is_certain, k - c, largest=False, sorted=False).indices
    is_chosen = is_certain.index_fill(0, rest, True)
    return torch.topk(place + size * ~is_chosen, k, largest=False, sorted=True).indices


def scoring_tap(taps: Iterable[Tap]) -> str:
    """Return the tap that novelty is measured at, the one that fires first; empty if its rows cannot be projected.

    What is inside a block fires before the block's own output does.
    """
    order = sorted(taps, key=lambda tap: (tap.layer, tap.name.endswith("/block")))
    first = order[0] if order else None
    return first.name if first and first.kind == "block" and not first.is_sharded else ""


def novelty_sampling(
    fraction: float,
    sampling: RowSampling,
    projection: Projection,
    taps: Iterable[Tap],
    at: Coordinates,
    counters: Counters,
) -> NoveltySampling | None:
    """Return the rule for `fraction` of the rows; None, and a line in the log, where there can be none."""
    num_novel = int(fraction * sampling.rows_per_step)
    if not num_novel:
        return None
    tap = scoring_tap(taps)
    reason = why_off(at, tap)
    if reason:
        counters.add("novelty_skipped", "layout")
        _log.warning("infoplane: no rows are chosen by novelty: %s", reason)
        return None
    return NoveltySampling(sampling, projection, num_novel, tap, counters)


def why_off(at: Coordinates, tap: str) -> str:
    """Return why no row can be chosen by novelty in this layout; empty: nothing is in the way."""
    if at.pp_size > 1:
        # Rows of all stages are joined by key, and cut by one rule.
        return "later pipeline stages do not see the scoring tap"
    if at.tp_size > 1:
        # Equal on all ranks only if their activations are, to the last bit.
        return "ranks of a tensor-parallel group would have to choose alike"
    return "" if tap else "no tap that can be projected fires before all others"
