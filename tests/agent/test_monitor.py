"""The whole path on a plain module: what is sent equals what numpy makes of the raw activations."""

from __future__ import annotations

import copy
import io
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from infoplane.agent import attach
from infoplane.agent.projection import projection_matrix
from infoplane.agent.sampling import RowSampling
from infoplane.agent.tokens import buckets
from infoplane.estimators.state import LogHistogram
from infoplane.wire import ConfigurationError, from_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.histograms import from_histogram

TAPS = {"embed", "final_norm"} | {f"0{i}/{s}" for i in range(3) for s in ("block", "act")}
Make = Callable[..., Any]


def raw_activations(model: nn.Module, kept: dict[str, list[torch.Tensor]]) -> None:
    """Capture what the taps should see, with hooks of our own."""

    def keep(name: str) -> Any:
        return lambda module, args, output: kept.setdefault(name, []).append(
            output.detach().clone()
        )

    for i, block in enumerate(model.blocks):
        block.register_forward_hook(keep(f"0{i}/block"))
        block.act.register_forward_hook(keep(f"0{i}/act"))
    model.embed.register_forward_hook(keep("embed"))
    model.final_norm.register_forward_hook(keep("final_norm"))
    model.lm_head.register_forward_hook(keep("logits"))


def test_every_sketch_equals_numpy_on_the_raw_activations(
    make_loop: Make, make_model: Make
) -> None:
    model, kept = make_model(), {}
    raw_activations(model, kept)
    loop = make_loop(model)
    loop.step()
    (record,) = loop.records("sketch")
    keys = from_tensor(record.sketch.row_keys)
    every = RowSampling(0, 0, 128).keys(0, 0, np.arange(64, dtype=np.uint64))
    index = np.argsort(every)
    np.testing.assert_array_equal(keys, every[index])
    assert record.sketch.rows_total == 64
    assert {tap.tap for tap in record.sketch.taps} == TAPS
    for tap in record.sketch.taps:
        raw = kept[tap.tap][0].double().flatten(0, 1).numpy()
        assert tap.width == raw.shape[1]
        (check_act if tap.tap.endswith("act") else check_block)(tap, raw, index)


def check_act(tap: pb.TapSketch, raw: Any, index: Any) -> None:
    counts = from_histogram(tap.elements)
    expected = LogHistogram.of_values(raw[index]).counts
    assert tap.elements.is_signed
    assert not tap.HasField("moments")
    assert counts.sum() == raw.size
    # Float32 may put a value within 2e-6 of an edge into the next bucket.
    assert np.abs(counts - expected).sum() <= 4


def check_block(tap: pb.TapSketch, raw: Any, index: Any) -> None:
    y = raw @ projection_matrix(raw.shape[1], 64, 0).astype(np.float64)
    norm = np.linalg.norm(raw, axis=1)
    outer = (y.T @ y)[np.triu_indices(64)]
    assert tap.moments.n == tap.norms.n == 64
    np.testing.assert_allclose(from_tensor(tap.moments.total), y.sum(0), atol=1e-4)
    np.testing.assert_allclose(from_tensor(tap.moments.outer), outer, atol=1e-3)
    assert tap.norms.sum_square == pytest.approx((norm**2).sum(), rel=1e-6)
    assert tap.norms.sum_fourth == pytest.approx((norm**4).sum(), rel=1e-6)
    assert tap.norms.maximum == pytest.approx(norm.max(), rel=1e-6)
    counts = from_histogram(tap.norm_histogram)
    assert np.abs(counts - LogHistogram.of_values(norm, signed=False).counts).sum() <= 4
    scaled, scale = from_tensor(tap.rows.scaled), from_tensor(tap.rows.scale)
    rows = scaled.astype(np.float64) * scale[:, None]
    np.testing.assert_allclose(rows, y[index], atol=2**-11 * np.abs(y).max())


def test_tokens_belong_to_the_same_rows(make_loop: Make, make_model: Make) -> None:
    model, kept = make_model(), {}
    raw_activations(model, kept)
    loop = make_loop(model)
    ids = loop.step()
    (record,) = loop.records("tokens")
    found = {column.name: from_tensor(column.values) for column in record.tokens.columns}
    index = np.argsort(RowSampling(0, 0, 128).keys(0, 0, np.arange(64, dtype=np.uint64)))
    target = ids[:, 1:].flatten().numpy()[index]
    log_p = torch.log_softmax(kept["logits"][0].double().flatten(0, 1), -1).numpy()[index]
    np.testing.assert_array_equal(found["position"], index % 16)
    np.testing.assert_array_equal(found["target"], buckets(target, 0))
    assert found["valid"].all()
    np.testing.assert_allclose(found["log_prob"], log_p[np.arange(64), target], atol=1e-5)
    np.testing.assert_allclose(found["entropy"], -(np.exp(log_p) * log_p).sum(1), atol=1e-5)
    assert record.tokens.vocabulary == kept["logits"][0].shape[-1]
    assert record.tokens.token_mode == "buckets"


def test_logits_of_the_root_are_used_where_no_head_is_named(
    make_loop: Make, make_model: Make
) -> None:
    model = make_model()
    model.lm_head, model.project = None, model.lm_head
    model.forward = lambda ids: model.project(model.final_norm(model.embed(ids)))
    loop = make_loop(model)
    loop.model(torch.zeros(2, 5, dtype=torch.long))
    loop.monitor.step()
    (record,) = loop.records("tokens")
    assert {column.name for column in record.tokens.columns} >= {"log_prob", "entropy"}


@pytest.mark.parametrize(
    ("level", "first", "expected"), [(0, 0, 6), (1, 0, 3), (2, 3, 2), (4, 1, 0)]
)
def test_sampled_steps_are_the_multiples_of_two_to_the_level(
    make_loop: Make, level: int, first: int, expected: int
) -> None:
    loop = make_loop(**{"sampling.base_level": level}, first_step=first)
    for _ in range(6):
        loop.step()
    records = loop.records()
    for body in ("sketch", "tokens", "scalars", "agent"):
        steps = [record.step for record in records if record.WhichOneof("body") == body]
        assert steps == [s for s in range(first, first + 6) if s % 2**level == 0]
        assert len(steps) == expected
    assert {record.sender.first_step for record in records} == {first}
    assert {record.sender.level for record in records} == {level}


def test_micro_batch_zero_alone_is_sketched(make_loop: Make, make_model: Make) -> None:
    model, kept = make_model(), {}
    raw_activations(model, kept)
    loop = make_loop(model)
    loop.step(micros=3)
    tap = loop.taps()[0]["01/block"]
    raw = kept["01/block"]
    assert len(raw) == 3
    assert tap.norms.sum_square == pytest.approx(float(raw[0].double().square().sum()), rel=1e-6)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_fires_no_tap_again(
    make_loop: Make, make_model: Make, reentrant: bool
) -> None:
    model = make_model()
    model.reentrant = reentrant
    fired: dict[str, int] = {}
    loop = make_loop(model)
    recorder = loop.monitor._session.parts.recorder
    original = recorder._sketch

    def count(tap: Any, *rest: Any) -> None:
        fired[tap.name] = fired.get(tap.name, 0) + 1
        original(tap, *rest)

    recorder._sketch = count
    calls: list[int] = []
    model.blocks[0].act.register_forward_hook(lambda *_: calls.append(1))
    loop.step()
    assert len(calls) == 2, "the block was not recomputed"
    assert fired == dict.fromkeys(TAPS, 1)


def test_a_backward_inside_the_forward_fires_no_tap_again(
    make_loop: Make, make_model: Make
) -> None:
    model = make_model()
    model.reentrant = True
    inner = model.forward

    def forward(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = inner(ids, targets)
        loss.backward()
        return loss.detach().requires_grad_()

    model.forward = forward
    loop = make_loop(model)
    loop.step()
    assert set(loop.taps()[0]) == TAPS
    assert "tap_errors" not in str(loop.monitor.stats())


def test_evaluation_and_paused_steps_are_not_captured(make_loop: Make) -> None:
    loop = make_loop()
    loop.model.eval()
    loop.model(torch.zeros(2, 5, dtype=torch.long))
    loop.model.train()
    loop.step()
    loop.monitor.pause()
    loop.step()
    loop.monitor.resume()
    loop.step()
    records = loop.records("sketch")
    assert [record.step for record in records] == [0, 2]
    assert {record.sketch.rows_total for record in records} == {64}


def test_a_forward_that_raised_leaves_nothing_open(make_loop: Make, make_model: Make) -> None:
    model = make_model()
    loop = make_loop(model)
    with pytest.raises(IndexError):
        model(torch.full((4, 16), 10_000))
    model.eval()
    model(torch.zeros(9, 5, dtype=torch.long))
    model.train()
    loop.step()
    # The step's first micro-batch is the one that failed; the next step is whole again.
    loop.step()
    assert set(loop.taps()[1]) == TAPS


def test_rows_of_all_taps_agree_under_autocast(make_loop: Make, make_model: Make) -> None:
    model, kept = make_model(), {}
    raw_activations(model, kept)
    loop = make_loop(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loop.step()
    tap = loop.taps()[0]["01/act"]
    assert kept["01/act"][0].dtype == torch.bfloat16
    assert from_histogram(tap.elements).sum() == kept["01/act"][0].numel()
    block = loop.taps()[0]["01/block"]
    raw = kept["01/block"][0].double().flatten(0, 1).numpy()
    y = raw @ projection_matrix(raw.shape[1], 64, 0).astype(np.float64)
    # A projection in bfloat16 would be off by 1e-2.
    np.testing.assert_allclose(from_tensor(block.moments.total), y.sum(0), atol=1e-4)


def test_random_state_losses_and_parameters_are_untouched(
    make_loop: Make, make_model: Make
) -> None:
    def train(loop: Any) -> tuple[list[float], torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        losses = []
        for _ in range(5):
            loop.step()
            losses.append(float(loop.model.embed.weight.detach().sum()))
        flat = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
        return losses, flat, torch.get_rng_state()

    model = make_model()
    twin = copy.deepcopy(model)
    on, off = train(make_loop(model)), train(make_loop(twin, enabled=False))
    assert on[0] == off[0]
    assert torch.equal(on[1], off[1])
    assert torch.equal(on[2], off[2])


def test_units_senders_and_goodbye(make_loop: Make) -> None:
    loop = make_loop(**{"units.layers": 2}, heartbeat_s=0.05)
    for _ in range(3):
        loop.step()
    records = loop.records()
    units = ["layers/00-01", "layers/02-02", "tokens", "scalars", "agent"]
    assert all(list(record.units) == units for record in records)
    second = next(r for r in records if r.unit == units[1] and r.HasField("sketch"))
    marks = {tap.tap: tap.duplicate for tap in second.sketch.taps}
    assert marks == {"01/block": True, "02/block": False, "02/act": False, "final_norm": False}
    goodbyes = {r.unit: r.bye.last_step for r in records if r.WhichOneof("body") == "bye"}
    assert goodbyes == dict.fromkeys(units, 2)
    for unit in units:
        assert sorted(r.seq for r in records if r.unit == unit) == list(
            range(sum(r.unit == unit for r in records))
        )


def test_heartbeats_state_the_finished_step(make_loop: Make) -> None:
    loop = make_loop(heartbeat_s=0.05)
    loop.step()
    loop.step()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not any(
        record.heartbeat.finished_step == 1 for record in loop.sent()
    ):
        time.sleep(0.02)
    beats = [r for r in loop.records("heartbeat") if r.heartbeat.any_finished]
    assert {record.heartbeat.finished_step for record in beats} <= {0, 1}
    assert max(record.heartbeat.finished_step for record in beats) == 1


def test_scalars_carry_their_step_and_the_announced_plan(make_loop: Make) -> None:
    loop = make_loop(
        **{"sampling.base_level": 1}, announce=lambda step: {"learning_rate": step / 8}
    )
    for step in range(3):
        loop.step()
        loop.monitor.log({"loss": torch.tensor(float(step))}, norm=step * 10)
    records = loop.records("scalars")
    found = [
        (r.step, v.name, v.step, v.value, v.announced) for r in records for v in r.scalars.values
    ]
    assert found == [
        (0, "learning_rate", 0, 0.0, True),
        (2, "loss", 0, 0.0, False),
        (2, "norm", 0, 0.0, False),
        (2, "loss", 1, 1.0, False),
        (2, "norm", 1, 10.0, False),
        (2, "learning_rate", 2, 0.25, True),
    ]


def test_the_agent_reports_its_own_cost(make_loop: Make) -> None:
    loop = make_loop()
    for _ in range(3):
        loop.step()
    last = loop.records("agent")[-1]
    totals = {counter.name: counter.value for counter in last.agent.counters}
    assert totals["steps"] == totals["sampled_steps"] == 3
    assert totals["records_dropped"] == 0
    assert totals.keys() >= {"publisher_cpu_seconds", "records_sent", "bytes_sent"}
    assert 0 < totals["hook_seconds"] < totals["step_seconds"]


def test_a_broken_tap_is_switched_off_and_training_goes_on(
    make_loop: Make, make_model: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    model.blocks[1].act.forward = lambda x: (
        x.sum(-1, keepdim=True).expand_as(x)[:, :8].repeat(1, 2, 1)
    )
    model.final_norm.forward = lambda x: x.flatten(0, 1)[:10]
    inner = model.lm_head.forward
    model.lm_head.forward = lambda x: inner(x[:1].expand(64, -1)).view(4, 16, -1)
    loop = make_loop(model)
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        for _ in range(5):
            loop.step()
    taps = loop.taps()
    assert all("final_norm" not in found for found in taps.values())
    assert all("01/block" in found for found in taps.values())
    assert loop.monitor.stats()["tap_errors{ValueError}"] == 3
    assert loop.monitor.stats()["taps_off"] == 1


def test_an_error_in_announce_costs_nothing_but_a_count(make_loop: Make) -> None:
    def announce(step: int) -> dict[str, float]:
        raise ZeroDivisionError

    loop = make_loop(announce=announce)
    for _ in range(6):
        loop.step()
    assert loop.monitor.stats()["boundary_errors{ZeroDivisionError}"] == 6
    assert [record.step for record in loop.records("sketch")] == list(range(6))


def test_no_free_slot_drops_the_newest_step_and_counts_it(make_loop: Make) -> None:
    loop = make_loop(**{"buffers.slots": 1})
    ring = loop.monitor._session.parts.ring
    held = ring.take()
    loop.step()
    ring.put(held)
    loop.step()
    assert [record.step for record in loop.records("sketch")] == [1]
    assert loop.monitor.stats()["records_dropped{no_slot}"] == 4


def test_attach_twice_gives_the_same_handle_and_close_frees_it(make_loop: Make) -> None:
    loop = make_loop()
    hooks = count_hooks(loop.model)
    assert attach(loop.model) is loop.monitor
    assert count_hooks(loop.model) == hooks > 0
    loop.monitor.close()
    loop.monitor.close()
    assert count_hooks(loop.model) == 0
    assert attach(loop.model, transport="memory").run != "test"


def count_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_disabled_is_a_true_no_op(make_loop: Make, make_model: Make, monkeypatch: Any) -> None:
    monkeypatch.setenv("INFOPLANE_ENABLED", "0")
    threads = threading.active_count()
    loop = make_loop(make_model())
    assert not loop.monitor.enabled
    assert count_hooks(loop.model) == 0
    assert threading.active_count() == threads
    loop.step()
    loop.monitor.log(loss=1.0)
    loop.monitor.pause()
    loop.monitor.resume()
    loop.monitor.detach()
    with loop.monitor as monitor:
        assert monitor.stats() == {}
    assert loop.monitor.messages == []


def test_between_sampled_steps_only_the_root_has_hooks(make_loop: Make) -> None:
    loop = make_loop(**{"sampling.base_level": 1})
    inside: list[int] = []
    loop.model.embed.register_forward_hook(lambda *_: inside.append(count_hooks(loop.model)))
    for _ in range(4):
        loop.step(micros=2)
    # One hook is this test's own, one stays in the root; its other, eight taps and the head come and go.
    assert inside == [12, 2, 2, 2, 12, 2, 2, 2]
    assert count_hooks(loop.model) == 2


def test_copies_and_pickles_of_a_hooked_model_are_inert(make_loop: Make) -> None:
    loop = make_loop()
    twin = copy.deepcopy(loop.model)
    buffer = io.BytesIO()
    torch.save(loop.model.blocks[0], buffer)
    twin(torch.zeros(2, 5, dtype=torch.long))
    loop.step()
    assert [record.sketch.rows_total for record in loop.records("sketch")] == [64]


def test_mistakes_in_code_raise_and_mistakes_elsewhere_disable(
    make_model: Make, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match=r"sampling\.base_level"):
        attach(make_model(), config={"sampling": {"base_level": -1}})
    monkeypatch.setenv("INFOPLANE_SAMPLING__BASE_LEVEL", "-1")
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        monitor = attach(make_model())
        assert not attach("no model").enabled
    assert not monitor.enabled
    assert "sampling.base_level" in caplog.text
    assert "neither a DeepSpeed engine nor an nn.Module" in caplog.text


def test_the_state_dict_and_parameters_stay_the_users(make_loop: Make, make_model: Make) -> None:
    model = make_model()
    before = list(model.state_dict())
    loop = make_loop(model)
    loop.step()
    assert list(model.state_dict()) == before
    assert not [name for name, _ in model.named_buffers()]


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_models_train_on_and_send_scalars_without_taps(
    make_loop: Make, make_model: Make, in_place: bool
) -> None:
    model = make_model()
    loop = make_loop(model)
    torch._dynamo.reset()
    graphs = CompileCounter()
    if in_place:
        model.compile(backend=graphs)
    else:
        loop.model = torch.compile(model, backend=graphs)
    for _ in range(3):
        loop.step()
        loop.monitor.log(x=1.0)
    records = loop.records()
    bodies = {
        record.step: record.WhichOneof("body") for record in records if record.unit == "scalars"
    }
    assert bodies.keys() == {0, 1, 2}
    assert not [record for record in records if record.HasField("sketch")]
    assert graphs.frame_count == 1, "a hook broke the graph"
    assert loop.monitor.stats()["step_seconds"] > 0
    assert "errors" not in str(loop.monitor.stats())
