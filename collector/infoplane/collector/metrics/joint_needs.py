"""What metrics across taps need, from the joint second moments of up to 8 taps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from infoplane.collector.estimate.view import WindowView
from infoplane.collector.metrics.metric import Arrays, Item
from infoplane.collector.metrics.needs import array_named, matrix_named, tap_labels
from infoplane.collector.taps import layer_of
from infoplane.estimators.state import Moments
from infoplane.wire import ConfigurationError

JOINT = "joint"


@dataclass(frozen=True, slots=True, eq=False)
class JointTaps:
    """Second moments of several taps side by side, and the width of each."""

    moments: Moments
    taps: tuple[str, ...]
    widths: tuple[int, ...]

    def block(self, *places: int) -> Moments:
        """Return the joint moments of some of the taps."""
        ends = np.cumsum(self.widths)
        columns = np.concatenate([np.arange(ends[p] - self.widths[p], ends[p]) for p in places])
        outer = self.moments.outer[np.ix_(columns, columns)]
        return Moments(self.moments.n, self.moments.total[columns], outer)


class JointMoments:
    """The joint second moments of the window, as one item."""

    name: ClassVar[str] = "joint moments of up to 8 taps"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, D)", "widths": "columns of each tap (t,)"}

    def gather(self, view: WindowView) -> list[Item[JointTaps]]:
        """One item, where the probe `joint` is on."""
        tap = view.taps.get(JOINT)
        if tap is None or not {"n", "total", "outer", "taps"} <= tap.summaries.keys():
            return []
        found = tap.summaries
        layers = found["taps"].astype(int)
        total = found["total"].astype(np.float64)
        outer = np.zeros((len(total), len(total)))
        outer[np.triu_indices(len(total))] = found["outer"]
        moments = Moments(float(found["n"].sum()), total, outer + np.triu(outer, 1).T)
        digits = max(2, len(str(int(layers.max(initial=0)))))
        names = tuple(f"{layer:0{digits}}/block" for layer in layers)
        widths = (len(total) // max(1, len(layers)),) * len(layers)
        return [Item({}, JointTaps(moments, names, widths), tap.completeness)]

    def load(self, arrays: Arrays) -> JointTaps:
        """Moments of the rows x, whose columns are those of several taps."""
        x, widths = matrix_named(arrays, "x"), array_named(arrays, "widths").ravel().astype(int)
        if widths.sum() != x.shape[1] or widths.min() < 1:
            raise ConfigurationError(
                "widths", widths.tolist(), f"whole numbers that add up to {x.shape[1]}"
            )
        names = tuple(f"{place:02}/block" for place in range(len(widths)))
        return JointTaps(Moments.of_rows(x.astype(np.float64)), names, tuple(widths.tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class OneOfJoint:
    """One tap among those that it is seen with."""

    joint: JointTaps
    place: int


class JointPerTap:
    """Every tap beside the others: one item a tap."""

    name: ClassVar[str] = "one tap beside the joint moments of the others"
    arrays: ClassVar[Mapping[str, str]] = {
        "x": "rows (n, D)",
        "widths": "columns of each tap (t,)",
        "tap": "which one, 0 ..",
    }

    def gather(self, view: WindowView) -> list[Item[OneOfJoint]]:
        """One item a tap, where the probe `joint` is on."""
        return [
            Item(tap_labels(tap), OneOfJoint(item.value, place), item.completeness)
            for item in JointMoments().gather(view)
            if item.value is not None
            for place, tap in enumerate(item.value.taps)
        ]

    def load(self, arrays: Arrays) -> OneOfJoint:
        """The joint moments of the rows x, and the place of the tap."""
        joint, place = JointMoments().load(arrays), int(array_named(arrays, "tap").ravel()[0])
        if not 0 <= place < len(joint.taps):
            raise ConfigurationError("tap", place, f"0 .. {len(joint.taps) - 1}")
        return OneOfJoint(joint, place)


@dataclass(frozen=True, slots=True, eq=False)
class TwoBlocks:
    """Joint moments of two taps, the source's columns first, and how many these are."""

    moments: Moments
    width: int


class JointToLast:
    """Every tap with the last one."""

    name: ClassVar[str] = "joint moments of one tap and the last"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, dx)", "y": "rows (n, dy)"}

    def gather(self, view: WindowView) -> list[Item[TwoBlocks]]:
        """One item a tap but the last, where the probe `joint` is on."""
        items = []
        for item in JointMoments().gather(view):
            joint = item.value
            if joint is None:
                continue
            last = len(joint.taps) - 1
            for place, tap in enumerate(joint.taps[:-1]):
                labels = {"pair": f"{tap}|{joint.taps[last]}", "layer": layer_of(tap)}
                value = TwoBlocks(joint.block(place, last), joint.widths[place])
                items.append(Item(labels, value, item.completeness))
        return items

    def load(self, arrays: Arrays) -> TwoBlocks:
        """Joint moments of the rows x and y."""
        x, y = matrix_named(arrays, "x"), matrix_named(arrays, "y")
        if len(x) != len(y):
            raise ConfigurationError("y", y.shape, f"as many rows as x, {len(x)}")
        return TwoBlocks(
            Moments.of_rows(np.concatenate([x, y], axis=1).astype(np.float64)), x.shape[1]
        )
