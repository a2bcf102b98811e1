"""Gradients of block outputs: against autograd's own, whatever checkpoints the forward."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from infoplane.agent.projection import projection_matrix
from infoplane.agent.sampling import RowSampling
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb

MODES = ("none", "reentrant", "non_reentrant", "deepspeed", "deepspeed_non_reentrant", "segment")
BLOCKS = ("00/gradient", "01/gradient", "02/gradient")


def summaries(tap: pb.TapSketch) -> dict[str, np.ndarray]:
    return {found.name: from_tensor(found.values) for found in tap.summaries}


def runner(mode: str, blocks: nn.ModuleList) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    """Return what takes the place of `Model.run`."""
    if mode == "none":
        return lambda block, x: block(x)
    if mode == "segment":

        def run(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
            # All blocks in one reentrant checkpoint, which the first of them starts.
            if block is not blocks[0]:
                return x
            return checkpoint_sequential(nn.Sequential(*blocks), 1, x, use_reentrant=True)

        return run
    if mode.startswith("deepspeed"):
        pytest.importorskip("deepspeed")
        from deepspeed.runtime.activation_checkpointing import checkpointing

        name = "checkpoint" if mode == "deepspeed" else "non_reentrant_checkpoint"
        return getattr(checkpointing, name)  # type: ignore[no-any-return]
    return partial(checkpoint, use_reentrant=mode == "reentrant")


@pytest.fixture
def build(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")

    def make(mode: str, **settings: Any) -> Any:
        model = make_model()
        for block in model.blocks:
            block.drop.p = 0.0
        model.run = runner(mode, model.blocks)
        return make_loop(model, **{"probes.gradients": "on", **settings})

    return make


def reference(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the gradients of the loss with respect to block outputs, (N, d) each, without checkpoints."""
    outputs: list[torch.Tensor] = []
    model.run = lambda block, x: outputs.append(block(x)) or outputs[-1]
    loss = model(ids[:, :-1], ids[:, 1:])
    return [g.flatten(0, 1) for g in torch.autograd.grad(loss, outputs)]


def batches(count: int) -> list[torch.Tensor]:
    data = torch.Generator().manual_seed(5)
    return [torch.randint(0, 61, (4, 17), generator=data) for _ in range(count)]


def check(tap: pb.TapSketch, expected: torch.Tensor) -> None:
    norm = expected.double().norm(dim=1)
    found = summaries(tap)
    assert found["n"] == [expected.shape[0]]
    assert found["sum_square"] == pytest.approx([norm.square().sum().item()], rel=1e-5)
    assert found["maximum"] == pytest.approx([norm.max().item()], rel=1e-5)
    assert found["nonfinite"] == [0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("micros", [1, 3])
def test_only_micro_batch_0_counts_and_it_counts_once(
    build: Callable[..., Any], mode: str, micros: int
) -> None:
    loop, data = build(mode), batches(micros)
    for ids in data:
        loop.model(ids[:, :-1], ids[:, 1:]).backward()
    loop.monitor.step()
    taps = loop.taps()[0]
    for name, expected in zip(BLOCKS, reference(loop.model, data[0]), strict=True):
        check(taps[name], expected)
    assert loop.monitor.stats().get("tap_errors{TypeError}", 0) == 0


@pytest.mark.parametrize("mode", MODES)
def test_one_backward_through_several_forwards_is_told_apart(
    build: Callable[..., Any], mode: str
) -> None:
    """Autograd recomputes the latest forward first; the sampled one is the earliest."""
    loop, data = build(mode), batches(3)
    sum(loop.model(ids[:, :-1], ids[:, 1:]) for ids in data).backward()
    loop.monitor.step()
    taps = loop.taps()[0]
    for name, expected in zip(BLOCKS, reference(loop.model, data[0]), strict=True):
        check(taps[name], expected)


@pytest.mark.parametrize("mode", ["none", "reentrant"])
def test_rows_of_the_last_block_are_projected_gradients_of_the_sampled_tokens(
    build: Callable[..., Any], mode: str
) -> None:
    loop, (ids,) = build(mode), batches(1)
    loop.model(ids[:, :-1], ids[:, 1:]).backward()
    loop.monitor.step()
    sketch = next(r.sketch for r in loop.records("sketch") if r.unit == "gradients")
    keys = from_tensor(sketch.row_keys)
    own = RowSampling(0, 0, 256).keys(0, 0, np.arange(64, dtype=np.uint64))
    places = [int(np.flatnonzero(own == key)[0]) for key in keys]
    expected = reference(loop.model, ids)[-1][places].numpy() @ projection_matrix(24, 64, 0)
    assert [tap.HasField("rows") for tap in sketch.taps] == [False, False, True]
    rows = sketch.taps[-1].rows
    found = from_tensor(rows.scaled).astype(np.float32) * from_tensor(rows.scale)[:, None]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert sketch.rows_total == 64


@pytest.mark.parametrize("mode", MODES)
def test_parameters_get_the_same_gradients_bit_by_bit(
    build: Callable[..., Any], make_model: Callable[..., Any], mode: str
) -> None:
    gradients = []
    for setting in ("on", "off"):
        torch.manual_seed(0)
        loop, data = build(mode, **{"probes.gradients": setting}), batches(2)
        for ids in data:
            loop.model(ids[:, :-1], ids[:, 1:]).backward()
        loop.monitor.step()
        gradients.append([p.grad.clone() for p in loop.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_second_backward_through_one_graph_and_one_after_the_step_are_left_out(
    build: Callable[..., Any],
) -> None:
    loop, (ids, other) = build("none"), batches(2)
    loss = loop.model(ids[:, :-1], ids[:, 1:])
    loss.backward(retain_graph=True)
    (3 * loss).backward(retain_graph=True)
    loop.monitor.step()
    late = loop.model(other[:, :-1], other[:, 1:])
    (3 * loss).backward()
    late.backward()
    loop.monitor.step()
    taps = loop.taps()
    for step, batch in enumerate((ids, other)):
        for name, expected in zip(BLOCKS, reference(loop.model, batch), strict=True):
            check(taps[step][name], expected)


def test_the_graph_is_gone_after_backward(build: Callable[..., Any]) -> None:
    loop, (ids,) = build("none"), batches(1)
    seen: list[weakref.ref[Any]] = []
    loop.model.blocks[2].register_forward_hook(
        lambda module, args, output: seen.append(weakref.ref(output)) and None
    )
    loss = loop.model(ids[:, :-1], ids[:, 1:])
    loss.backward()
    del loss
    gc.collect()
    assert len(seen) == 1
    assert seen[0]() is None


def test_an_error_in_the_gradient_hook_is_counted_and_training_goes_on(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from infoplane.agent.probes import gradients

    def fail(*_: Any) -> None:
        raise ArithmeticError("drill")

    monkeypatch.setattr(gradients, "norm_sums", fail)
    loop = build("none")
    for _ in range(5):
        loop.step()
    assert loop.monitor.stats()["tap_errors{ArithmeticError}"] == 3
    assert all("00/gradient" not in taps for taps in loop.taps().values())
    assert loop.monitor.stats()["hook_seconds"] > 0


def test_frozen_blocks_have_no_gradient(build: Callable[..., Any]) -> None:
    loop = build("none")
    loop.model.embed.requires_grad_(False)
    loop.model.blocks[0].requires_grad_(False)
    loop.step()
    assert {name for name in loop.taps()[0] if "gradient" in name} == set(BLOCKS[1:])


def test_rows_that_are_not_finite_are_counted_apart(build: Callable[..., Any]) -> None:
    loop, (ids,) = build("none"), batches(1)
    hot = torch.zeros(4, 16, 24)
    hot[1, 2, 3] = torch.inf
    seen: list[torch.Tensor] = []
    loop.model.blocks[2].register_forward_hook(lambda m, a, output: seen.append(output) and None)
    loss = loop.model(ids[:, :-1], ids[:, 1:])
    (loss + (seen[0] * hot).nan_to_num(0).sum()).backward()
    loop.monitor.step()
    found = summaries(loop.taps()[0]["02/gradient"])
    assert found["n"] == [63]
    assert found["nonfinite"] == [1]
    assert np.isfinite(found["sum_square"]).all()
