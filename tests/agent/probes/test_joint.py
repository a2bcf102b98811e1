"""The joint second moments against the closed form from the model's own activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent.projection import projection_matrix
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb


def joint_of(record: pb.Record) -> dict[str, Any]:
    (tap,) = record.sketch.taps
    assert tap.tap == "joint"
    return {summary.name: from_tensor(summary.values) for summary in tap.summaries} | {
        "merges": {summary.name: summary.merge for summary in tap.summaries}
    }


def keep(seen: dict[int, torch.Tensor], layer: int, _m: Any, _a: Any, y: torch.Tensor) -> None:
    seen.setdefault(layer, y.detach())


def expected_rows(model: nn.Module, layers: list[int], run: Callable[[], Any]) -> np.ndarray:
    """Return z (N, 16 t) of the chosen blocks, in float64."""
    seen: dict[int, torch.Tensor] = {}
    handles = [
        model.blocks[layer].register_forward_hook(partial(keep, seen, layer)) for layer in layers
    ]
    run()
    for handle in handles:
        handle.remove()
    parts = []
    for layer in layers:
        x = seen[layer].reshape(-1, seen[layer].shape[-1]).double().numpy()
        parts.append(x @ projection_matrix(x.shape[1], 16, 0).astype(np.float64))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(
    ("layers", "chosen"), [(3, [0, 1, 2]), (8, list(range(8))), (15, [0, 2, 4, 6, 8, 10, 12, 14])]
)
def test_sums_are_those_of_all_tokens(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], layers: int, chosen: list[int]
) -> None:
    model = make_model(layers=layers)
    loop = make_loop(model, **{"probes.joint": "on"})
    z = expected_rows(model, chosen, lambda: loop.step(batch=3, length=10))
    (record,) = [r for r in loop.records("sketch") if r.unit == "joint"]
    found = joint_of(record)
    size = 16 * len(chosen)
    assert found["taps"].tolist() == chosen
    assert found["n"].tolist() == [30.0]
    np.testing.assert_allclose(found["total"], z.sum(axis=0), rtol=1e-4, atol=1e-4)
    outer = (z.T @ z)[np.triu_indices(size)]
    np.testing.assert_allclose(found["outer"], outer, rtol=1e-3, atol=1e-3)
    assert found["merges"] == {
        "n": pb.ADD, "total": pb.ADD, "outer": pb.ADD, "taps": pb.MAXIMUM,
    }  # fmt: skip


def test_the_number_of_tokens_may_change_from_step_to_step(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**{"probes.joint": "on"})
    for length in (16, 5, 9):
        loop.step(batch=2, length=length)
    found = [joint_of(r) for r in loop.records("sketch") if r.unit == "joint"]
    assert [float(one["n"][0]) for one in found] == [32.0, 10.0, 18.0]


def test_rows_that_are_not_finite_are_left_out_of_all_sums(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    model.blocks[1].register_forward_hook(
        lambda _module, _args, output: output.index_fill(1, torch.tensor([0]), float("nan"))
    )
    loop = make_loop(model, **{"probes.joint": "on"})
    loop.step(batch=2, length=6)
    (record,) = [r for r in loop.records("sketch") if r.unit == "joint"]
    found = joint_of(record)
    assert found["n"].tolist() == [10.0]
    assert np.isfinite(found["outer"]).all()


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_is_not_counted_twice(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], reentrant: bool
) -> None:
    model = make_model()
    model.reentrant = reentrant
    loop = make_loop(model, **{"probes.joint": "on"})
    loop.step(micros=2, batch=2, length=8)
    (record,) = [r for r in loop.records("sketch") if r.unit == "joint"]
    assert joint_of(record)["n"].tolist() == [16.0]


def test_a_step_in_which_a_block_did_not_run_sends_nothing(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    loop = make_loop(model, **{"probes.joint": "on"})
    model.run = lambda block, x: x if block is model.blocks[1] else block(x)
    loop.step()
    del model.run
    loop.step()
    assert [r.step for r in loop.records("sketch") if r.unit == "joint"] == [1]


def test_one_block_is_too_few(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        loop = make_loop(make_model(layers=1), **{"probes.joint": "on"})
    assert "joint      not captured: needs two blocks" in caplog.text
    assert "joint" not in loop.monitor.units
