"""The path of a representation through training: its length, and how straight it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.geometry.fisher_rao import fisher_step
from infoplane.estimators.state.moments import Moments

STEP = "fisher_step"
LENGTH = "fisher_path_length"
NET = "fisher_net_distance"
EFFICIENCY = "fisher_path_efficiency"
VERSION = 1
SHARED = 1.5
"""Steps share their windows: two neighbours' squares correlate by 1/4, which adds a half."""


@dataclass(frozen=True, slots=True)
class FisherPath:
    """What has to be known to go on with a path; a value, from which `advance` makes another.

    Every step is corrected by itself and cut at 0 (`fisher_step`), so that what a step has below
    chance is lost while the cut adds some: a path that stands still grows by 0.41 sqrt(s) a step.
    The null of `length` says how much that is.

    Attributes:
        reference: Moments at its beginning.
        last: Moments of the newest window that could be compared.
        total: Length so far.
        steps: Steps so far.
        still_mean: Mean length of as many steps without change.
        still_variance: Its variance, were the steps independent.
        step: The newest step; not part of `to_arrays`.
    """

    reference: Moments
    last: Moments
    total: float
    steps: int
    still_mean: float
    still_variance: float
    step: Estimate

    @classmethod
    def start(cls, moments: Moments) -> FisherPath:
        """Return a path of no steps."""
        moments = _symmetric(moments)
        step = _missing("history", moments, "1", STEP)
        return cls(moments, moments, 0.0, 0, 0.0, 0.0, step)

    def advance(self, moments: Moments, *, split: float | None = None) -> FisherPath:
        """Return the path with one more window.

        A window that cannot be compared changes nothing but `step`, which says why. As long as
        there is no step, a beginning that was of no use itself is replaced. Cost O(d^3).

        Args:
            moments: Of the window.
            split: Distance by chance, as in `fisher_step`.
        """
        (after,) = FisherPath.advance_all(
            [self], [moments], split=None if split is None else [split]
        )
        return after

    @classmethod
    def advance_all(
        cls,
        paths: Sequence[FisherPath],
        moments: Sequence[Moments],
        *,
        split: Sequence[float] | None = None,
    ) -> list[FisherPath]:
        """Return what `advance` gives for every path, with the distances computed together.

        Raises:
            ValueError: If the numbers of paths, windows or distances by chance differ.
        """
        now = [_symmetric(one) for one in moments]
        steps = fisher_step(now, [path.last for path in paths], split=split)
        return [path._after(one, step) for path, one, step in zip(paths, now, steps, strict=True)]

    def _after(self, moments: Moments, step: Estimate) -> FisherPath:
        if not step.defined:
            useless = self.steps == 0 and not fisher_step([self.last], [self.last])[0].defined
            return replace(FisherPath.start(moments) if useless else self, step=step)
        return FisherPath(
            self.reference,
            moments,
            self.total + step.value,
            self.steps + 1,
            self.still_mean + (step.null_mean or 0.0),
            self.still_variance + (step.null_sd or 0.0) ** 2,
            step,
        )

    @property
    def length(self) -> Estimate:
        """The sum of all steps, unit 1; n is the rows of the newest window.

        Null (analytic): as many steps without change. No ceiling or band. Undefined: ``"history"``
        before the first step.
        """
        if self.steps == 0:
            return _missing("history", self.last, "1", LENGTH)
        return Estimate(
            value=self.total,
            unit="1",
            n=int(self.last.n),
            estimator=LENGTH,
            version=VERSION,
            null_mean=self.still_mean,
            null_sd=math.sqrt(SHARED * self.still_variance),
            parameters=self._parameters,
        )

    @property
    def net(self) -> Estimate:
        """The distance of the newest window from the beginning, as `fisher_step` gives it."""
        return _nets([self])[0]

    @property
    def efficiency(self) -> Estimate:
        """Net distance over length, a ratio: 1 straight on, near 0 to and fro. Ceiling: 1.

        No null and no band. Undefined: ``"history"`` before the second step, ``"null"`` when neither
        length nor net distance is more than 1.96 standard deviations above its null, as of a path
        that stands still, and as `net`.
        """
        return FisherPath.efficiencies([self])[0]

    @staticmethod
    def efficiencies(paths: Sequence[FisherPath]) -> list[Estimate]:
        """Return `efficiency` of every path, with the net distances computed together."""
        nets = iter(_nets([path for path in paths if path.steps >= 2]))
        return [
            path._straightness(next(nets))
            if path.steps >= 2
            else _missing("history", path.last, "ratio", EFFICIENCY)
            for path in paths
        ]

    def _straightness(self, net: Estimate) -> Estimate:
        length = self.length
        if not net.defined or not (_moved(net) or _moved(length)) or length.value <= 0:
            return _missing(net.undefined or "null", self.last, "ratio", EFFICIENCY)
        return Estimate(
            # What is taken off differs between the two, so that chance may pass 1.
            value=min(net.value / length.value, 1.0),
            unit="ratio",
            n=net.n,
            estimator=EFFICIENCY,
            version=VERSION,
            ceiling=1.0,
            parameters=self._parameters,
        )

    @property
    def _parameters(self) -> dict[str, float | int | str]:
        return {"d": self.last.d}

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the path as three arrays, 8 (d^2 + 3 d) bytes; `from_arrays` restores every bit.

        Moments are stored as upper triangles in float64. `step` is not stored.
        """
        numbers = [self.total, self.steps, self.still_mean, self.still_variance]
        return {
            "path": np.array(numbers, dtype=np.float64),
            "reference": _flat(self.reference),
            "last": _flat(self.last),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> FisherPath:
        """Return the path that `to_arrays` gave; its `step` is undefined, ``"history"``.

        Raises:
            ValueError: If an array is missing or has another shape.
        """
        shapes = {name: np.shape(array) for name, array in arrays.items()}
        if not {"reference", "last"} <= shapes.keys() or shapes.get("path") != (4,):
            raise ValueError(f"arrays: expected path (4,), reference and last, got {shapes}")
        total, steps, mean, variance = np.asarray(arrays["path"], np.float64).tolist()
        last = _moments(arrays["last"])
        step = _missing("history", last, "1", STEP)
        return cls(_moments(arrays["reference"]), last, total, int(steps), mean, variance, step)


def _nets(paths: Sequence[FisherPath]) -> list[Estimate]:
    found = fisher_step([path.last for path in paths], [path.reference for path in paths])
    return [replace(one, estimator=NET) for one in found]


def _moved(value: Estimate) -> bool:
    return value.value > (value.null_mean or 0.0) + 1.96 * (value.null_sd or 0.0)


def _symmetric(moments: Moments) -> Moments:
    """Return what `to_arrays` can store: one triangle stands for both, which rounding may tell."""
    is_symmetric = np.array_equal(moments.outer, moments.outer.T)
    return moments if is_symmetric else _moments(_flat(moments))


def _flat(moments: Moments) -> npt.NDArray[np.float64]:
    return np.concatenate([[moments.n], moments.total, moments.triangle])


def _moments(array: npt.NDArray[Any]) -> Moments:
    flat = np.asarray(array, np.float64)
    # 1 + d + d (d + 1) / 2 numbers.
    d = (math.isqrt(8 * flat.size + 1) - 3) // 2
    if flat.ndim != 1 or d < 0 or flat.size != 1 + d + d * (d + 1) // 2:
        raise ValueError(f"arrays: expected 1 + d + d (d + 1) / 2 numbers, got {flat.shape}")
    return Moments.of_triangle(float(flat[0]), flat[1 : 1 + d], flat[1 + d :])


def _missing(reason: str, moments: Moments, unit: Unit, estimator: str) -> Estimate:
    return Estimate.missing(
        reason,
        unit=unit,
        n=int(moments.n) if math.isfinite(moments.n) else 0,
        estimator=estimator,
        version=VERSION,
        parameters={"d": moments.d},
    )
