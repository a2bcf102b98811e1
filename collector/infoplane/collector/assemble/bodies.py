"""The body of a window, one kind per unit: sketches, tokens, scalars or the agent's counters.

A body is parsed from a record (`of`), which may raise and changes nothing, and then added to the window's body.
`parts` writes it as panes; `of_panes` reads those back, so a pane stream is also the saved state of a window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from infoplane.collector.assemble import strata
from infoplane.collector.assemble.rows import Columns, Keys, RowMerge
from infoplane.collector.assemble.taps import MAX_PARTS, TapMerge
from infoplane.collector.assemble.vocabulary import SEEN, VocabularyRows, check_columns
from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

MAX_ROWS_PER_WINDOW = 8192


class Body(Protocol):
    """What one record says, or what all records of a window said together."""

    def agrees_with(self, other: Body) -> bool:
        """Whether `other` can be added."""
        ...

    def add(self, other: Body) -> None:
        """Add a body that `agrees_with` this one."""
        ...

    def parts(self) -> list[pb.WindowPane]:
        """Return the panes' bodies, everything else left open."""
        ...

    def dump(self) -> list[pb.WindowPane]:
        """Return panes from which `restore` makes this body again."""
        ...


@dataclass(slots=True)
class SketchBody:
    """Taps of one unit."""

    sampling: pb.Sampling
    rows_total: int
    taps: dict[str, TapMerge]
    references: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, sketch: pb.Sketch) -> SketchBody:
        """Parse; raises DecodeError."""
        keys, keep = _keys(sketch.row_keys), _keep(sketch.sampling)
        columns = strata.of_record(sketch, len(keys)) if sketch.HasField("inclusion") else {}
        taps = {tap.tap: TapMerge.of(tap, keys, keep, columns) for tap in sketch.taps}
        if len(taps) != len(sketch.taps):
            raise DecodeError("content", "a tap comes twice in one record")
        references = {sketch.reference} if columns else set()
        return cls(sketch.sampling, sketch.rows_total, taps, references)

    @classmethod
    def of_panes(cls, panes: Iterable[pb.WindowPane]) -> SketchBody:
        """Parse the parts that `parts` wrote; raises DecodeError."""
        body = cls(pb.Sampling(), 0, {})
        for pane in panes:
            body.sampling, body.rows_total = pane.sampling, pane.rows_total
            keys, keep = _keys(pane.row_keys), _keep(pane.sampling)
            body.references.update(pane.references)
            columns = strata.of_pane(pane, len(keys))
            body.taps[pane.tap.tap] = TapMerge.of(pane.tap, keys, keep, columns)
        return body

    def agrees_with(self, other: Body) -> bool:
        """Same projection, same keys, same shapes; a tap may be missing on one side."""
        return (
            isinstance(other, SketchBody)
            and self.sampling == other.sampling
            and all(
                self.taps[name].agrees_with(tap)
                for name, tap in other.taps.items()
                if name in self.taps
            )
        )

    def add(self, other: Body) -> None:
        """Add tap by tap."""
        assert isinstance(other, SketchBody)
        self.rows_total += other.rows_total
        self.references |= other.references
        for name, tap in other.taps.items():
            mine = self.taps.get(name)
            if mine is None:
                self.taps[name] = tap
            else:
                mine.add(tap)

    def parts(self) -> list[pb.WindowPane]:
        """One part a tap, sorted by name."""
        return self._panes(is_dump=False)

    def dump(self) -> list[pb.WindowPane]:
        """The same, with rows that are not whole yet."""
        return self._panes(is_dump=True)

    def _panes(self, *, is_dump: bool) -> list[pb.WindowPane]:
        panes = []
        for name in sorted(self.taps):
            tap, keys = self.taps[name].message(name, is_dump=is_dump)
            pane = pb.WindowPane(
                sampling=self.sampling,
                rows_total=self.rows_total,
                row_keys=to_tensor(keys),
                tap=tap,
                references=sorted(self.references)[-strata.MAX_REFERENCES :],
            )
            strata.write(pane, self.taps[name].rows.settle()[1])
            panes.append(pane)
        return panes


@dataclass(slots=True)
class TokensBody:
    """Columns of the sampled rows."""

    sampling: pb.Sampling
    rows_total: int
    token_mode: str
    vocabulary: int
    rows: RowMerge | VocabularyRows

    @classmethod
    def of(cls, tokens: pb.Tokens, pane: pb.WindowPane | None = None) -> TokensBody:
        """Parse a record's tokens, or those of `pane`; raises DecodeError."""
        keys, keep = _keys(tokens.row_keys), _keep(tokens.sampling)
        columns = {c.name: from_tensor(c.values, shape=(len(keys),)) for c in tokens.columns}
        if tokens.HasField("seen"):
            columns[SEEN] = from_tensor(tokens.seen, shape=(len(keys),))
        found = strata.of_pane(pane, len(keys)) if pane else strata.of_record(tokens, len(keys))
        columns |= found
        if tokens.parts > MAX_PARTS or (tokens.parts > 1 and found):
            raise DecodeError("content", f"tokens of {tokens.parts} parts")
        check_columns(columns)
        rows = VocabularyRows(keep, tokens.parts) if tokens.parts > 1 else RowMerge(keep)
        rows.add(keys, columns)
        return cls(tokens.sampling, tokens.rows_total, tokens.token_mode, tokens.vocabulary, rows)

    @classmethod
    def of_panes(cls, panes: Iterable[pb.WindowPane]) -> TokensBody:
        """Parse the part that `parts` wrote; raises DecodeError."""
        (pane,) = panes
        return cls.of(pane.tokens, pane)

    def agrees_with(self, other: Body) -> bool:
        """Same sample, same privacy mode, same columns."""
        return (
            isinstance(other, TokensBody)
            and (self.sampling, self.token_mode) == (other.sampling, other.token_mode)
            and _parts_of(self.rows) == _parts_of(other.rows)
            and self.rows.agrees_with(
                {name: parts[0] for name, parts in other.rows.columns.items()}
            )
        )

    def add(self, other: Body) -> None:
        """Union of rows."""
        assert isinstance(other, TokensBody)
        self.rows_total += other.rows_total
        for place, keys in enumerate(other.rows.keys):
            self.rows.add(keys, {name: parts[place] for name, parts in other.rows.columns.items()})

    def parts(self) -> list[pb.WindowPane]:
        """One part."""
        whole = self.rows.whole if isinstance(self.rows, VocabularyRows) else self.rows.settle
        keys, columns = whole()
        pane = pb.WindowPane(tokens=self._message(keys, columns))
        strata.write(pane, columns)
        return [pane]

    def dump(self) -> list[pb.WindowPane]:
        """The same, with rows that are not whole yet."""
        if isinstance(self.rows, RowMerge):
            return self.parts()
        keys, columns = self.rows.settle()
        seen = columns.pop(SEEN)
        tokens = self._message(keys, columns)
        tokens.parts = self.rows.parts
        tokens.seen.CopyFrom(to_tensor(seen))
        return [pb.WindowPane(tokens=tokens)]

    def _message(self, keys: Keys, columns: Columns) -> pb.Tokens:
        return pb.Tokens(
            sampling=self.sampling,
            rows_total=self.rows_total,
            row_keys=to_tensor(keys),
            columns=[
                pb.Column(name=name, values=to_tensor(columns[name]))
                for name in sorted(columns)
                if name not in (strata.INCLUSION, strata.UNIFORM)
            ],
            token_mode=self.token_mode,
            vocabulary=self.vocabulary,
        )


@dataclass(slots=True)
class ScalarsBody:
    """Sums of scalars, measured and announced ones of one name apart.

    Values that are not finite are counted and left out of the sums.
    """

    sums: dict[tuple[str, bool], pb.ScalarSum] = field(default_factory=dict)

    @classmethod
    def of(cls, scalars: pb.Scalars) -> ScalarsBody:
        """Parse."""
        body = cls()
        for scalar in scalars.values:
            one = pb.ScalarSum(
                name=scalar.name,
                announced=scalar.announced,
                minimum=math.inf,
                maximum=-math.inf,
            )
            if math.isfinite(scalar.value):
                one.n, one.total, one.square = 1.0, scalar.value, scalar.value**2
                one.minimum = one.maximum = scalar.value
            else:
                one.nonfinite = 1
            body._add_sum(one)
        return body

    @classmethod
    def of_panes(cls, panes: Iterable[pb.WindowPane]) -> ScalarsBody:
        """Parse the part that `parts` wrote."""
        (pane,) = panes
        return cls({(one.name, one.announced): one for one in pane.scalars.values})

    def agrees_with(self, other: Body) -> bool:
        """Scalars always add."""
        return isinstance(other, ScalarsBody)

    def add(self, other: Body) -> None:
        """Add sum by sum."""
        assert isinstance(other, ScalarsBody)
        for one in other.sums.values():
            self._add_sum(one)

    def parts(self) -> list[pb.WindowPane]:
        """One part."""
        values = [self.sums[key] for key in sorted(self.sums)]
        return [pb.WindowPane(scalars=pb.ScalarWindow(values=values))]

    dump = parts

    def _add_sum(self, one: pb.ScalarSum) -> None:
        mine = self.sums.get((one.name, one.announced))
        if mine is None:
            self.sums[one.name, one.announced] = one
            return
        mine.n += one.n
        mine.total += one.total
        mine.square += one.square
        mine.minimum = min(mine.minimum, one.minimum)
        mine.maximum = max(mine.maximum, one.maximum)
        mine.nonfinite += one.nonfinite


@dataclass(slots=True)
class AgentBody:
    """Running totals of the agents: the latest of each sender, summed over senders when written.

    A total only grows, so the latest is the greatest; `max` makes the order of arrival irrelevant.
    """

    totals: dict[int, dict[tuple[str, str], float]]

    @classmethod
    def of(cls, stats: pb.AgentStats, sender: int) -> AgentBody:
        """Parse what `sender` says."""
        return cls({sender: {(c.name, c.reason): c.value for c in stats.counters}})

    @classmethod
    def of_panes(cls, panes: Iterable[pb.WindowPane]) -> AgentBody:
        """Parse what `dump` wrote: one pane a sender."""
        return cls(
            {
                pane.part: {(c.name, c.reason): c.value for c in pane.agent.counters}
                for pane in panes
            }
        )

    def agrees_with(self, other: Body) -> bool:
        """Totals always merge."""
        return isinstance(other, AgentBody)

    def add(self, other: Body) -> None:
        """Take the greater total of each sender."""
        assert isinstance(other, AgentBody)
        for sender, totals in other.totals.items():
            mine = self.totals.setdefault(sender, {})
            for key, value in totals.items():
                mine[key] = max(mine.get(key, -math.inf), value)

    def parts(self) -> list[pb.WindowPane]:
        """One part: sums over senders, in the order of senders, so that the bits do not depend on arrival."""
        sums: dict[tuple[str, str], float] = {}
        for sender in sorted(self.totals):
            for key, value in self.totals[sender].items():
                sums[key] = sums.get(key, 0.0) + value
        counters = [
            pb.Counter(name=name, reason=reason, value=sums[name, reason])
            for name, reason in sorted(sums)
        ]
        return [pb.WindowPane(agent=pb.AgentStats(counters=counters))]

    def dump(self) -> list[pb.WindowPane]:
        """One pane a sender: the sums of `parts` cannot be taken apart again."""
        return [
            pb.WindowPane(
                part=sender,
                agent=pb.AgentStats(
                    counters=[
                        pb.Counter(name=name, reason=reason, value=value)
                        for (name, reason), value in sorted(totals.items())
                    ]
                ),
            )
            for sender, totals in sorted(self.totals.items())
        ]


def body_of(record: pb.Record) -> Body | None:
    """Return the body of a record, None if it carries none (heartbeat, bye).

    Raises:
        DecodeError: the content contradicts itself.
    """
    kind = record.WhichOneof("body")
    if kind == "sketch":
        return SketchBody.of(record.sketch)
    if kind == "tokens":
        return TokensBody.of(record.tokens)
    if kind == "scalars":
        return ScalarsBody.of(record.scalars)
    if kind == "agent":
        return AgentBody.of(record.agent, record.sender.index)
    return None


def restore(panes: list[pb.WindowPane]) -> Body | None:
    """Return the body that `dump` wrote, None for no panes.

    Raises:
        DecodeError: the panes are not such a dump.
    """
    kinds = {pane.WhichOneof("body") for pane in panes}
    if kinds == {"tap"}:
        return SketchBody.of_panes(panes)
    if kinds == {"tokens"}:
        return TokensBody.of_panes(panes)
    if kinds == {"scalars"}:
        return ScalarsBody.of_panes(panes)
    if kinds == {"agent"}:
        return AgentBody.of_panes(panes)
    if kinds:
        raise DecodeError("content", f"mixed bodies {sorted(map(str, kinds))}")
    return None


def _keys(tensor: pb.Tensor) -> Keys:
    if not tensor.ByteSize():  # what probes send may have no rows
        return np.zeros(0, np.uint64)
    keys = from_tensor(tensor, shape=(None,))
    if keys.dtype != np.uint64:
        raise DecodeError("content", f"row keys of {keys.dtype}")
    return keys


def _parts_of(rows: RowMerge | VocabularyRows) -> int:
    return rows.parts if isinstance(rows, VocabularyRows) else 1


def _keep(sampling: pb.Sampling) -> int:
    return max(1, min(sampling.rows_per_window, MAX_ROWS_PER_WINDOW))
