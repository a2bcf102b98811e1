"""Geometry of the head on one rank: closed forms; tests/integration has ranks and partitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent.probes import head
from infoplane.agent.probes.head import _rows
from infoplane.agent.probes.holding import Holding
from infoplane.agent.projection import projection_matrix
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb

ON = {"probes.head": "on", "sampling.width": 2}


def summaries(tap: pb.TapSketch) -> dict[str, np.ndarray]:
    return {found.name: from_tensor(found.values) for found in tap.summaries}


def check(found: dict[str, np.ndarray], rows: np.ndarray) -> None:
    """Compare with closed forms over `rows` (n, d)."""
    square = (rows**2).sum(1)
    y = rows @ projection_matrix(rows.shape[1], 64, 0).astype(np.float64)
    expected = {
        "rows": [len(rows)],
        "sum_square": [square.sum()],
        "sum_fourth": [(square**2).sum()],
        "maximum": [square.max() ** 0.5],
        "nonfinite": [0],
        "column_total": rows.sum(0),
        "total": y.sum(0),
        "outer": (y.T @ y)[np.triu_indices(64)],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_every_row_is_in_the_sums_once_a_window_after_the_update(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    loop, seen = make_loop(model, **ON), {}
    for step in range(5):
        loop.step()
        seen[step] = model.lm_head.weight.detach().double().numpy().copy()
    taps = loop.taps()
    assert [step for step in range(5) if "head" in taps[step]] == [0, 2, 4]
    for step in (0, 2, 4):
        found = summaries(taps[step]["head"])
        check(found, seen[step])
        assert found["population"] == [61]
        assert taps[step]["head"].width == 24
    assert not np.array_equal(seen[0], seen[4])


def test_a_large_head_is_sampled_by_every_nth_row_always_the_same(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "MAX_ELEMENTS", 24 * 20)
    model = make_model()
    loop = make_loop(model, **ON)
    loop.step()
    found = summaries(loop.taps()[0]["head"])
    check(found, model.lm_head.weight.detach().double().numpy()[::4])
    assert (found["rows"], found["population"]) == ([16], [61])


def test_rows_that_are_not_finite_are_counted_and_left_out(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    loop = make_loop(model, **ON)
    with torch.no_grad():
        model.lm_head.weight[7, 3] = torch.inf
    loop.monitor.step()
    loop.step(), loop.step()
    found = summaries(loop.taps()[2]["head"])
    assert found["nonfinite"][0] >= 1
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize(("total", "width"), [(61, 24), (7, 3), (3, 5), (1000, 8)])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_slices_count_every_row_and_look_at_all_that_are_not_cut(
    total: int, width: int, ranks: int
) -> None:
    weight = nn.Parameter(torch.zeros(total, width))
    length = -(-total * width // ranks)
    rows: list[int] = []
    population = 0
    for rank in range(ranks):
        first = min(rank * length, total * width)
        size = min(length, total * width - first)
        begin, count, own = _rows(Holding(weight, (total, width), first, size, 0, 1, 0))
        rows += range(begin, begin + count)
        population += own
    cut = {(rank * length) // width for rank in range(1, ranks) if rank * length % width}
    assert population == total
    assert rows == [row for row in range(total) if row not in cut]


@pytest.mark.parametrize("shares", [1, 2, 5, 70])
def test_replicas_share_the_rows_out(shares: int) -> None:
    weight = nn.Parameter(torch.zeros(61, 4))
    rows: list[int] = []
    for share in range(shares):
        begin, count, _ = _rows(Holding(weight, (61, 4), 0, 244, share, shares, 0))
        rows += range(begin, begin + count)
    assert rows == list(range(61))


def test_a_model_without_a_head_says_so(
    make_model: Callable[..., Any],
    make_loop: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "infoplane.agent")
    model = make_model()
    model.classifier = model.lm_head
    del model.lm_head
    loop = make_loop(model, **ON)
    assert "head" not in loop.monitor.units
    assert "head       not captured: no module named like a head" in caplog.text
