"""Anchor and null passes: what they send, and that training does not notice them."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent import Monitor
from infoplane.agent.anchors import MAX_ROWS, anchor_keys, anchor_level
from infoplane.agent.projection import projection_matrix
from infoplane.agent.settings import SamplingSettings
from infoplane.agent.undisturbed import undisturbed
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb

STEPS = 9
# One window is one step: anchors run at every step that their level divides.
SHORT_WINDOWS = {"sampling.width": 1}


def anchor_ids(size: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(0, 61, (size, length), generator=torch.Generator().manual_seed(9))


def anchors(loop: Any) -> list[pb.Record]:
    return [record for record in loop.records("sketch") if record.unit == "anchor"]


def rows_of(tap: pb.TapSketch) -> np.ndarray:
    scale = from_tensor(tap.rows.scale).astype(np.float64)
    return from_tensor(tap.rows.scaled).astype(np.float64) * scale[:, None]


def test_passes_come_at_multiples_of_their_level(
    make_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infoplane.agent.anchors._SLOTS", 3)  # a toy may overtake the publisher
    loop = make_loop(**SHORT_WINDOWS)
    loop.monitor.anchor((anchor_ids(),), every_windows=3)
    for _ in range(9):
        loop.step()
    found = anchors(loop)
    assert [record.step for record in found] == [0, 4, 8]
    assert [record.seq for record in found][1:] > [0]
    assert {record.sender.level for record in found} == {2}
    assert {(record.sender.index, record.sender.count) for record in found} == {(0, 1)}
    assert loop.monitor.stats()["anchor_passes"] == 3


@pytest.mark.parametrize(
    ("base", "width", "every", "level"), [(4, 8, 1, 7), (4, 8, 8, 10), (0, 1, 1, 0), (4, 6, 1, 7), (2, 5, 3, 6)]
)  # fmt: skip
def test_passes_are_at_least_so_many_windows_apart(
    base: int, width: int, every: int, level: int
) -> None:
    assert anchor_level(SamplingSettings(base_level=base, width=width), every) == level
    assert 1 << level >= every * (width << base)


def test_rows_are_the_models_own_on_the_anchor_batch(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**SHORT_WINDOWS)
    ids = anchor_ids()
    loop.monitor.anchor({"ids": ids}, ids=[5, 11, 2], every_windows=1)
    loop.step()
    expected: dict[str, np.ndarray] = {}
    with undisturbed(loop.model):  # step 0 is over, so these are the weights of its pass
        x = loop.model.embed(ids)
        expected["anchor/embed"] = x.double().numpy()
        for layer, block in enumerate(loop.model.blocks):
            x = block(x)
            expected[f"anchor/0{layer}"] = x.double().numpy()
        expected["anchor/final_norm"] = loop.model.final_norm(x).double().numpy()
    (record,) = anchors(loop)
    keys = anchor_keys([5, 11, 2], 7, 0).reshape(-1)
    assert from_tensor(record.sketch.row_keys).tolist() == sorted(keys.tolist())
    assert record.sketch.rows_total == 21
    assert {tap.tap for tap in record.sketch.taps} == {*expected, "anchor/logits"}
    for tap in record.sketch.taps[:-1]:
        x = expected[tap.tap].reshape(21, -1)[np.argsort(keys)]
        y = x @ projection_matrix(x.shape[1], 64, 0).astype(np.float64)
        np.testing.assert_allclose(rows_of(tap), y, atol=2e-3 * np.abs(y).max())


def test_predictions_are_the_models_own(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**SHORT_WINDOWS)
    ids = anchor_ids()
    loop.monitor.anchor({"ids": ids}, every_windows=1)
    loop.step()
    with undisturbed(loop.model):
        log_p = torch.log_softmax(loop.model(ids), dim=-1)
    order = np.argsort(anchor_keys(range(3), 7, 0).reshape(-1))
    (record,) = anchors(loop)
    found = {s.name: from_tensor(s.values) for s in record.sketch.taps[-1].summaries}
    top, chosen = log_p.reshape(21, -1)[order].topk(32, dim=1)
    np.testing.assert_allclose(found["top_log_probs"], top, atol=1e-6)
    np.testing.assert_array_equal(found["top_ids"], chosen)
    after = log_p[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    expected = nn.functional.pad(after, (0, 1)).reshape(-1)[order]
    np.testing.assert_allclose(found["next_log_prob"], expected, atol=1e-6)


def test_the_same_inputs_have_the_same_keys_in_every_pass_and_drift(
    make_loop: Callable[..., Any],
) -> None:
    loop = make_loop(**SHORT_WINDOWS)
    loop.monitor.anchor(anchor_ids(), every_windows=1)
    for _ in range(4):
        loop.step()
    found = anchors(loop)
    assert len({record.sketch.row_keys.data for record in found}) == 1
    last = [rows_of(next(t for t in r.sketch.taps if t.tap == "anchor/02")) for r in found]
    assert all(np.abs(b - a).max() > 0 for a, b in pairwise(last))


def test_keys_are_unique_and_depend_on_sample_and_position_only() -> None:
    keys = anchor_keys([3, 4], 500, key_seed=7)
    assert len(np.unique(keys)) == 1000
    assert (anchor_keys([4], 500, 7)[0] == keys[1]).all()
    assert (anchor_keys([4], 900, 7)[0, :500] == keys[1]).all()
    assert not (anchor_keys([4], 500, 8)[0] == keys[1]).any()
    assert int(keys.max()) < 1 << 63


def test_padding_is_left_out_and_long_batches_are_sampled(make_loop: Callable[..., Any]) -> None:
    class Masked(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(
            self, ids: torch.Tensor, targets: Any = None, attention_mask: Any = None
        ) -> Any:
            return self.inner(ids, targets)

    from_fixture = make_loop().model
    loop = make_loop(Masked(from_fixture), **SHORT_WINDOWS)
    ids = anchor_ids(4, 100)
    mask = torch.ones_like(ids)
    mask[:, :40] = 0
    loop.monitor.anchor({"ids": ids, "attention_mask": mask}, every_windows=1)
    loop.step()
    (record,) = anchors(loop)
    found = set(from_tensor(record.sketch.row_keys).tolist())
    keys = anchor_keys(range(4), 100, 0)
    assert found <= set(keys[:, 40:].reshape(-1).tolist())
    assert len(found) == 4 * 60 == 240 < MAX_ROWS
    assert from_tensor(record.sketch.taps[0].rows.scale).shape == (240,)


def test_a_function_may_call_the_model_itself(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**SHORT_WINDOWS)

    def run(model: nn.Module) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(anchor_ids())

    loop.monitor.anchor(run, every_windows=1)
    loop.step()
    (record,) = anchors(loop)
    assert len(record.sketch.taps) == 6


# ---------------------------------------------------------------- training does not notice


def trained(
    make_loop: Callable[..., Any], model: nn.Module, use: Callable[[Monitor, int], None] | None
) -> tuple[list[str], torch.Tensor, Any, Any, list[str]]:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    loop = make_loop(model, **SHORT_WINDOWS)
    losses: list[str] = []
    model.register_forward_hook(
        lambda _m, _a, out: losses.append(out.item().hex()) if out.requires_grad else None
    )
    for step in range(STEPS):
        if use is not None:
            use(loop.monitor, step)
        loop.step(micros=2)
    loop.monitor.close()
    weights = [p.detach().numpy().tobytes().hex() for p in model.parameters()]
    return losses, torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), weights  # fmt: skip


@pytest.mark.parametrize("kind", ["anchor", "null pass", "failing anchor"])
def test_losses_weights_and_random_states_are_bit_equal(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], kind: str
) -> None:
    """The model has dropout, and the extra pass draws from every generator there is."""

    def run(model: nn.Module) -> Any:
        torch.rand(3), np.random.rand(3), random.random()
        if kind == "failing anchor":
            raise RuntimeError("on purpose")
        return model(anchor_ids())

    def use(monitor: Monitor, step: int) -> None:
        if kind == "null pass":
            assert monitor.null_pass(run, anchor_ids()) is not None
        elif step == 0:
            monitor.anchor(run, every_windows=1)

    def fresh() -> nn.Module:
        torch.manual_seed(1)
        return make_model()

    plain = trained(make_loop, fresh(), None)
    used = trained(make_loop, fresh(), use)
    assert len(plain[0]) == 2 * STEPS
    assert plain[0] == used[0]
    assert torch.equal(plain[1], used[1])
    assert plain[2:] == used[2:]


def test_flags_are_as_before_also_where_a_module_overrides_train(
    make_model: Callable[..., Any],
) -> None:
    class Merging(nn.Module):
        def train(self, mode: bool = True) -> Merging:
            raise AssertionError("merges its weights")

    model = make_model()
    model.extra = Merging()
    model.blocks[1].eval()
    before = [module.training for module in model.modules()]
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError), undisturbed(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_weights_cast_by_autocast_are_not_kept(make_model: Callable[..., Any]) -> None:
    """A cast without gradient in the cache would end the training of that weight until the block ends."""
    model = make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with undisturbed(model):
            model(anchor_ids())
        model(anchor_ids()).float().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_pass_does_not_depend_on_what_one_rank_knows(make_loop: Callable[..., Any]) -> None:
    """Paused, or with taps that fail: the passes of all ranks still pair up."""
    loop = make_loop(**SHORT_WINDOWS)
    loop.monitor.anchor(anchor_ids(), ids=[1], every_windows=1)  # one id for three samples
    loop.monitor.pause()
    for _ in range(5):
        loop.step()
    stats = loop.monitor.stats()
    assert stats["anchor_passes"] == 5
    assert stats["anchor_errors{ValueError}"] > 0
    assert anchors(loop) == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in loop.model.blocks.modules())


def test_a_second_batch_is_refused_and_a_disabled_monitor_does_nothing(
    make_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop(**SHORT_WINDOWS)
    loop.monitor.anchor(anchor_ids(), every_windows=1)
    assert caplog.text.count("an extra forward pass of the anchors follows every 1-th step") == 1
    loop.monitor.anchor(anchor_ids())
    assert "no anchors: they are set already" in caplog.text
    disabled = Monitor()
    disabled.anchor(anchor_ids())
    assert disabled.null_pass(anchor_ids(), anchor_ids()) is None


def test_anchors_end_with_the_monitor(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**SHORT_WINDOWS)
    loop.monitor.anchor(anchor_ids(), every_windows=1)
    loop.step()
    loop.monitor.detach()
    loop.step()
    assert [record.step for record in anchors(loop)] == [0]


# ---------------------------------------------------------------- the null pass


def test_null_pass_is_the_log_probability_of_every_label(make_loop: Callable[..., Any]) -> None:
    loop = make_loop()
    ids = anchor_ids(2, 6)
    labels = ids.clone()
    labels[1, 4:] = -100
    found = loop.monitor.null_pass({"ids": ids}, labels)
    loop.model.eval()
    with torch.no_grad():
        log_p = torch.log_softmax(loop.model(ids).double(), dim=-1)
    expected = torch.zeros(2, 6, dtype=torch.float64)
    for b in range(2):
        for s in range(1, 6):
            if labels[b, s] != -100:
                expected[b, s] = log_p[b, s - 1, labels[b, s]]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert (found[:, 0] == 0).all()


def test_a_null_pass_that_fails_returns_nothing(
    make_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop()
    assert loop.monitor.null_pass(lambda model: None, anchor_ids()) is None
    assert "the null pass failed" in caplog.text
    assert loop.model.training
