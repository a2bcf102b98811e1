"""Messages for the tests of the wire: one full example of each kind, and strategies for any."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message
from hypothesis import strategies as st

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor
from infoplane.wire.submessages import is_repeated

TOP_LEVEL = (
    pb.Record,
    pb.WindowPane,
    pb.Result,
    pb.Verdict,
    pb.DeadLetter,
    pb.StageState,
    pb.EventBatch,
    pb.SignedCommand,
    pb.AuditEntry,
    pb.AgentConfig,
)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    Field.TYPE_STRING: st.text(max_size=12),
    Field.TYPE_BYTES: st.binary(max_size=24),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_DOUBLE: st.floats(width=64),
    Field.TYPE_UINT32: st.integers(0, 2**32 - 1),
    Field.TYPE_UINT64: st.integers(0, 2**64 - 1),
    Field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    Field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}


@st.composite
def any_message(draw: st.DrawFn, kind: type[Message], depth: int = 4) -> Message:
    """Draw a message of `kind` with any subset of its fields."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if depth == 0 and field.type == Field.TYPE_MESSAGE:
            continue
        if draw(st.booleans()):
            _fill(draw, message, field, depth)
    return message


def _fill(draw: st.DrawFn, message: Message, field: Any, depth: int) -> None:
    count = draw(st.integers(1, 3)) if is_repeated(field) else 1
    for _ in range(count):
        if field.type == Field.TYPE_MESSAGE:
            place = getattr(message, field.name)
            target = place.add() if is_repeated(field) else place
            target.MergeFrom(draw(any_message(type(target), depth - 1)))
            if not is_repeated(field):
                target.SetInParent()
            continue
        strategy = (
            st.sampled_from(list(field.enum_type.values_by_number))
            if field.type == Field.TYPE_ENUM
            else _SCALARS[field.type]
        )
        if is_repeated(field):
            getattr(message, field.name).append(draw(strategy))
        else:
            setattr(message, field.name, draw(strategy))


def example_tap(name: str = "07/block") -> pb.TapSketch:
    """Return a small, complete tap sketch with fixed contents."""
    rows = np.linspace(-1, 1, 8, dtype=np.float16).reshape(2, 4)
    return pb.TapSketch(
        tap=name,
        duplicate=False,
        width=64,
        moments=pb.Moments(
            n=512.0,
            total=to_tensor(np.arange(4, dtype=np.float32)),
            outer=to_tensor(np.arange(10, dtype=np.float32) / 8),
        ),
        norms=pb.Norms(n=512, sum_square=10.5, sum_fourth=0.25, maximum=3.5, nonfinite=1),
        norm_histogram=pb.Histogram(counts=to_tensor(np.arange(6, dtype=np.int32))),
        rows=pb.Rows(
            scaled=to_tensor(rows), scale=to_tensor(np.array([0.5, 2.0], dtype=np.float32))
        ),
        elements=pb.Histogram(is_signed=True, counts=to_tensor(np.arange(4, dtype=np.int64))),
    )


def example_sampling() -> pb.Sampling:
    """Return fixed sampling settings."""
    return pb.Sampling(
        projection_version=1,
        projection_seed=2**63 + 5,
        projection_dim=4,
        key_version=1,
        key_seed=7,
        rows_per_step=16,
        rows_per_window=1024,
    )


def example_record() -> pb.Record:
    """Return a record with a sketch of two taps."""
    return pb.Record(
        run="golden",
        attempt=1_790_000_000_000,
        unit="layers/00-07",
        seq=3,
        step=128,
        coordinates=pb.Coordinates(rank=5, world=8, dp=1, dp_size=2, tp=1, tp_size=4),
        sender=pb.Sender(index=1, count=2, first_step=16, level=4, level_since=32),
        rule=pb.WindowRule(base_level=4, width=8),
        units=["layers/00-07", "tokens", "scalars", "agent"],
        time_ms=1_790_000_123_456,
        sketch=pb.Sketch(
            sampling=example_sampling(),
            rows_total=4096,
            row_keys=to_tensor(np.array([3, 2**63 - 1], dtype=np.uint64)),
            taps=[example_tap("07/block"), example_tap("06/block")],
        ),
    )


def example_pane() -> pb.WindowPane:
    """Return the final pane of one tap."""
    return pb.WindowPane(
        run="golden",
        attempt=1_790_000_000_000,
        unit="layers/00-07",
        window=1,
        pane=pb.Pane(kind=pb.FINAL, index=0),
        first_step=128,
        last_step=255,
        expected=16,
        present=15,
        clock_ms=1_790_000_200_000,
        units=["layers/00-07", "tokens"],
        part=1,
        parts=2,
        rule=pb.WindowRule(base_level=4, width=8),
        sampling=example_sampling(),
        rows_total=65_536,
        row_keys=to_tensor(np.array([3, 9], dtype=np.uint64)),
        tap=example_tap(),
    )


def example_result() -> pb.Result:
    """Return an estimate with every optional number, one of them zero."""
    return pb.Result(
        run="golden",
        attempt=1_790_000_000_000,
        window=1,
        pane=pb.Pane(kind=pb.LATE, index=2),
        first_step=128,
        last_step=255,
        clock_ms=1_790_000_200_000,
        metric="mutual_information",
        labels=[pb.Label(name="pair", value="07/block|08/block"), pb.Label(name="run", value="g")],
        value=1.25,
        unit="nats",
        n=1024,
        null_mean=0.0,
        null_sd=0.01,
        ceiling=4.5,
        saturated=False,
        band_low=1.1,
        band_high=1.4,
        completeness=0.9375,
        estimator="ksg",
        estimator_version=2,
        reference_version="r1",
        parameters=[pb.Parameter(name="k", value="4")],
    )


def example_verdict() -> pb.Verdict:
    """Return a verdict with one piece of evidence."""
    return pb.Verdict(
        run="golden",
        attempt=1_790_000_000_000,
        id="golden/1790000000000/collapse/effective_rank/7",
        detector="collapse",
        severity="warning",
        metric="effective_rank",
        window=7,
        since_step=640,
        detected_step=1023,
        clock_ms=1_790_000_900_000,
        pattern="all layers fall together",
        sentence="The effective rank of all layers fell by half since step 640.",
        evidence=[pb.Evidence(labels=[pb.Label(name="layer", value="07")], value=8.5, score=-6.25)],
    )


GOLDEN: dict[str, Message] = {
    "record": example_record(),
    "pane": example_pane(),
    "result": example_result(),
    "verdict": example_verdict(),
}
