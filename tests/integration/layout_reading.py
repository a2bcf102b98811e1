"""Reads back what the ranks of a layout sent, and merges it as the collector does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infoplane.collector.assemble.bodies import SketchBody, TokensBody
from infoplane.collector.assemble.machine import AssembleMachine
from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.histograms import from_histogram
from infoplane.wire.log import read_log


@dataclass
class Sent:
    """All records of one flavour, of all ranks."""

    records: list[pb.Record] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path, flavour: str, world: int) -> Sent:
        """Read the logs of all ranks."""
        name = flavour.replace(":", "-")
        paths = [folder / f"records-{name}-{rank}" for rank in range(world)]
        return cls([decode(entry.value, pb.Record) for path in paths for entry in read_log(path)])

    def of(self, unit: str, step: int | None = None) -> list[pb.Record]:
        """Return the records of a unit that have a body."""
        return [
            r for r in self.records
            if r.unit == unit and r.WhichOneof("body") not in ("heartbeat", "bye")
            and step in (None, r.step)
        ]  # fmt: skip

    @property
    def units(self) -> set[str]:
        """Units that were sent."""
        return {record.unit for record in self.records}

    @property
    def promised(self) -> set[tuple[str, ...]]:
        """What the records say the units of the run are."""
        return {tuple(record.units) for record in self.records}

    def senders(self, unit: str) -> dict[int, set[tuple[int, int]]]:
        """Return (index, count) of the senders of every step."""
        found = defaultdict(list)
        for record in self.of(unit):
            found[record.step].append((record.sender.index, record.sender.count))
        assert all(len(pairs) == len(set(pairs)) for pairs in found.values()), "sent twice"
        return {step: set(pairs) for step, pairs in found.items()}

    def sketch(self, unit: str, step: int) -> SketchBody:
        """Return the merged sketch of a unit of one step."""
        first, *others = (SketchBody.of(record.sketch) for record in self.of(unit, step))
        for other in others:
            assert first.agrees_with(other)
            first.add(other)
        return first

    def tokens(self, step: int) -> dict[int, dict[str, float]]:
        """Return the columns of the tokens of one step by row key."""
        first, *others = (TokensBody.of(record.tokens) for record in self.of("tokens", step))
        for other in others:
            first.add(other)
        (pane,) = first.parts()
        keys = from_tensor(pane.tokens.row_keys).tolist()
        columns = {c.name: from_tensor(c.values).tolist() for c in pane.tokens.columns}
        return {
            key: {name: values[place] for name, values in columns.items()}
            for place, key in enumerate(keys)
        }

    def taps(self, step: int) -> dict[str, Tap]:
        """Return the merged own taps of one step, by name, whatever unit they travel in."""
        found = {}
        for unit in sorted(self.units):
            if self.of(unit, step) and self.of(unit, step)[0].WhichOneof("body") == "sketch":
                for name, merged in self.sketch(unit, step).taps.items():
                    if not merged.duplicate:
                        found[name] = Tap.of(name, merged)
        return found

    def completeness(self) -> dict[str, tuple[int, int]]:
        """Return (expected, present) of every unit's only window, as the collector counts them."""
        found = {}
        for unit in self.units:
            machine = AssembleMachine("matrix", unit)
            emissions = []
            for position, record in enumerate(r for r in self.records if r.unit == unit):
                emissions += machine.add(record, record.time_ms, position)
            emissions += machine.on_timer(1 << 60)
            panes = [e.message for e in emissions if isinstance(e.message, pb.WindowPane)]
            found[unit] = (panes[-1].expected, panes[-1].present) if panes else (0, 0)
        return found


@dataclass
class Tap:
    """One merged tap in numpy."""

    message: pb.TapSketch
    keys: list[int]

    @classmethod
    def of(cls, name: str, merged: Any) -> Tap:
        """Return the tap."""
        message, keys = merged.message(name)
        return cls(message, keys.tolist())

    @property
    def moments(self) -> np.ndarray[Any, Any]:
        """n, sum y, sum y y^T, and the norms' sums, in one vector."""
        message = self.message
        return np.concatenate([
            [message.moments.n],
            from_tensor(message.moments.total).ravel(),
            from_tensor(message.moments.outer).ravel(),
            [message.norms.n, message.norms.sum_square, message.norms.sum_fourth],
        ])  # fmt: skip

    @property
    def elements(self) -> np.ndarray[Any, Any]:
        """Counts of the histogram of elements."""
        return from_histogram(self.message.elements)

    @property
    def rows(self) -> dict[int, np.ndarray[Any, Any]]:
        """Projected rows by key."""
        scaled, scale = from_tensor(self.message.rows.scaled), from_tensor(self.message.rows.scale)
        return dict(zip(self.keys, scaled.astype(np.float64) * scale[:, None], strict=True))


def relative(a: Iterable[float], b: Iterable[float]) -> float:
    """Return the largest difference over the largest value."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    return float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-300))
