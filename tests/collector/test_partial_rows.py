"""Laws of what tensor-parallel ranks and probes send in parts: any order, any split, over restarts."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from infoplane.collector.assemble.bodies import SketchBody, restore
from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

PARTS, STEPS, K, R = 4, 6, 16, 8


def sketch(step: int, part: int, whole: np.ndarray[Any, Any], keys: np.ndarray[Any, Any]) -> Any:
    """Return what one of PARTS ranks says: parts that add up to `whole`, and two summaries."""
    generator = np.random.default_rng([step, 7])
    parts = generator.standard_normal((PARTS, *whole.shape))
    parts[-1] = whole - parts[:-1].sum(0)
    tap = pb.TapSketch(tap="00/q_proj", width=64)
    tap.rows.parts = PARTS
    tap.rows.partial.CopyFrom(to_tensor(parts[part]))
    tap.summaries.add(name="count", merge=pb.ADD, values=to_tensor(np.array([part, step])))
    tap.summaries.add(name="top", merge=pb.MAXIMUM, values=to_tensor(np.array([part * 1.5])))
    tap.summaries.add(name="low", merge=pb.MINIMUM, values=to_tensor(np.array([step * 0.5])))
    return pb.Sketch(
        sampling=pb.Sampling(rows_per_window=1024), row_keys=to_tensor(keys), taps=[tap]
    )


def window(seed: int) -> tuple[list[Any], dict[int, np.ndarray[Any, Any]]]:
    """Return the sketches of a window, and the whole rows by key."""
    generator = np.random.default_rng(seed)
    sketches, rows = [], {}
    for step in range(STEPS):
        keys = np.sort(generator.integers(0, 2**63, K, dtype=np.uint64))
        whole = generator.standard_normal((K, R))
        rows |= dict(zip(keys.tolist(), whole, strict=True))
        sketches += [sketch(step, part, whole, keys) for part in range(PARTS)]
    return sketches, rows


def merged(sketches: list[Any], restart_at: int = -1) -> SketchBody:
    body: Any = SketchBody.of(sketches[0])
    for place, one in enumerate(sketches[1:], 1):
        if place == restart_at:
            body = restore(body.dump())
        other = SketchBody.of(one)
        assert body.agrees_with(other)
        body.add(other)
    return body


def read(body: SketchBody) -> tuple[list[int], np.ndarray[Any, Any], dict[str, list[float]]]:
    (pane,) = body.parts()
    rows = pane.tap.rows
    assert not rows.parts
    values = from_tensor(rows.scaled).astype(float) * from_tensor(rows.scale)[:, None]
    summaries = {s.name: from_tensor(s.values).tolist() for s in pane.tap.summaries}
    return from_tensor(pane.row_keys).tolist(), values, summaries


@pytest.mark.parametrize("seed", range(8))
def test_parts_add_up_in_any_order_and_over_a_restart(seed: int) -> None:
    sketches, rows = window(seed)
    random.Random(seed).shuffle(sketches)
    keys, values, summaries = read(merged(sketches))
    assert keys == sorted(rows)
    for key, value in zip(keys, values, strict=True):
        np.testing.assert_allclose(value, rows[key], atol=2e-3 * np.abs(rows[key]).max())
    steps, parts = sum(range(STEPS)) * PARTS, sum(range(PARTS)) * STEPS
    assert summaries == {"count": [parts, steps], "top": [4.5], "low": [0.0]}
    again = read(merged(sketches, restart_at=seed + 3))
    assert again[0] == keys
    np.testing.assert_array_equal(again[1], values)
    assert again[2] == summaries


def test_a_row_that_lacks_a_part_is_not_shown_but_waits() -> None:
    sketches, rows = window(1)
    lacking = sketches.pop(5)
    body = merged(sketches)
    missing = set(from_tensor(lacking.row_keys).tolist())
    assert set(read(body)[0]) == set(rows) - missing
    restored: Any = restore(body.dump())
    restored.add(SketchBody.of(lacking))
    assert set(read(restored)[0]) == set(rows)


def test_what_does_not_fit_together_is_refused() -> None:
    sketches, _ = window(2)
    other = pb.Sketch.FromString(sketches[1].SerializeToString())
    other.taps[0].rows.parts = 2
    assert not SketchBody.of(sketches[0]).agrees_with(SketchBody.of(other))
    other.taps[0].summaries[0].merge = 9  # type: ignore[assignment]
    with pytest.raises(DecodeError, match="law 9"):
        SketchBody.of(other)
    twice = pb.Sketch.FromString(sketches[1].SerializeToString())
    twice.taps[0].summaries.add(name="top", merge=pb.ADD, values=to_tensor(np.zeros(1)))
    with pytest.raises(DecodeError, match="comes twice"):
        SketchBody.of(twice)
