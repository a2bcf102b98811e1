"""Directives in a training loop: what the records say from the next window on, and that off changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.projection import projection_matrix
from infoplane.agent.sampling import RowSampling
from infoplane.wire import encode, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

WIDTH, DIM, K = 24, 16, 16
ON = {
    "sampling.novel_fraction": 0.25,
    "config.enabled": True,
    "sampling.projection_dim": DIM,
    "sampling.rows_per_window": 32,
    "sampling.width": 2,
}


def directive(version: int, *, is_empty: bool = False, **fields: Any) -> bytes:
    reference = None
    if not is_empty:
        rows = np.random.default_rng(version).normal(size=(20, WIDTH)).astype(np.float32)
        projected = rows @ projection_matrix(WIDTH, DIM, 0)
        reference = pb.Reference(
            sampling=pb.Sampling(projection_version=1, projection_dim=DIM),
            scoring_tap="embed",
            width=WIDTH,
            rows=to_tensor(projected.astype(np.float16)),
        )
    return encode(pb.AgentConfig(run="test", version=version, reference=reference, **fields))


def deliver(loop: Any, raw: bytes) -> None:
    desk = loop.monitor._session.parts.desk
    assert desk is not None
    desk.deliver(raw)


def sketches(loop: Any) -> dict[int, pb.Sketch]:
    return {record.step: record.sketch for record in loop.records("sketch")}


def test_rows_are_chosen_by_novelty_from_the_next_window_on(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**ON)
    loop.step()
    deliver(loop, directive(5))
    for _ in range(5):
        loop.step()
    records = loop.records()
    found = {r.step: r.sketch for r in records if r.WhichOneof("body") == "sketch"}
    tokens = {r.step: r.tokens for r in records if r.WhichOneof("body") == "tokens"}
    assert {step: sketch.reference for step, sketch in found.items()} == {
        0: 0, 1: 0, 2: 5, 3: 5, 4: 5, 5: 5,
    }  # fmt: skip
    for step, sketch in found.items():
        keys = from_tensor(sketch.row_keys)
        plain, _ = RowSampling(0, 0, K).pick(step, 0, 64, torch.device("cpu"))
        assert sketch.sampling.novel_rows == 4
        assert keys[: K - 4].tolist() == plain[: K - 4].tolist()
        assert (keys.tolist() == plain.tolist()) == (step < 2)
        inclusion = from_tensor(sketch.inclusion)
        expected = {K / 64} if step < 2 else {1.0, 12 / 60}
        assert {round(float(p), 6) for p in inclusion} == {round(p, 6) for p in expected}
        # Every tap and the tokens have the same rows.
        assert from_tensor(tokens[step].row_keys).tolist() == keys.tolist()
        assert from_tensor(tokens[step].inclusion).tolist() == inclusion.tolist()
        assert all(len(from_tensor(t.rows.scale)) == K for t in sketch.taps if t.HasField("rows"))


def test_ranks_with_one_input_choose_one_sample_and_an_act_tap_sees_its_uniform_rows_only(
    make_loop: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    found = []
    for fraction in (0.25, 0.25, 0.0):
        torch.manual_seed(0)
        model = make_model()
        model.blocks[0].drop.p = 0.0
        loop = make_loop(model, **{**ON, "sampling.novel_fraction": fraction})
        deliver(loop, directive(5) if fraction else directive(5, is_empty=True))
        loop.step()
        found.append(sketches(loop)[0])
    assert from_tensor(found[0].row_keys).tolist() == from_tensor(found[1].row_keys).tolist()
    counts = [
        from_tensor(next(t for t in sketch.taps if t.tap == "00/act").elements.counts).sum()
        for sketch in found
    ]
    assert counts == [12 * 2 * WIDTH, 12 * 2 * WIDTH, 16 * 2 * WIDTH]


def test_taps_can_be_switched_off_and_on(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**ON)
    deliver(loop, directive(1, is_empty=True, taps_off=["00/act", "final_norm", "nowhere"]))
    for _ in range(2):
        loop.step()
    deliver(loop, directive(2, is_empty=True))
    for _ in range(2):
        loop.step()
    taps = loop.taps()
    assert {"00/act", "final_norm"} & set(taps[0]) == set()
    assert "01/act" in taps[0]
    assert set(taps[2]) - set(taps[1]) == {"00/act", "final_norm"}
    assert loop.monitor.stats()["config_applied"] == 2


def test_a_directive_in_force_leaves_the_losses_as_they_are(
    make_loop: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    parameters = []
    for settings in ({}, ON):
        torch.manual_seed(1)
        loop = make_loop(make_model(), **settings)
        if settings:
            deliver(loop, directive(5, taps_off=["01/act"]))
        for _ in range(4):
            loop.step()
        loop.monitor.close()
        parameters.append([p.detach().clone() for p in loop.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*parameters, strict=True))


def test_off_by_default_nothing_is_in_the_records(make_loop: Callable[..., Any]) -> None:
    loop = make_loop()
    loop.step()
    assert loop.monitor._session is not None
    assert loop.monitor._session.parts.desk is None
    for record in loop.records():
        assert not record.sketch.HasField("inclusion")
        assert not record.tokens.HasField("inclusion")
        assert record.sketch.sampling.novel_rows == 0


def test_no_consumer_is_opened_unless_asked_for(
    make_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from infoplane.agent import assembly

    opened: list[str] = []

    class Source:
        def __init__(self, kafka: Any, run: str) -> None:
            opened.append(run)

        def start(self, deliver: Any) -> None:
            opened.append("started")

        def close(self, timeout_s: float) -> None:
            opened.append("closed")

    monkeypatch.setattr(assembly, "ConfigSource", Source)
    kafka = {"transport": "kafka", "exit_timeout_s": 0.0, "kafka.bootstrap_servers": "127.0.0.1:9"}
    make_loop(**kafka).monitor.close()
    assert opened == []
    make_loop(**kafka, **{"config.enabled": True}).monitor.close()
    assert opened == ["test", "started", "closed"]


def test_probes_send_uniform_rows_only(make_loop: Callable[..., Any]) -> None:
    """Gradients of the last block's rows, whose keys must be those of the plain sample of k - c rows."""
    loop = make_loop(**ON, **{"probes.gradients": "on"})
    deliver(loop, directive(5))
    loop.step()
    loop.step()
    found = [r for r in loop.records("sketch") if r.unit == "gradients"]
    assert len(found) == 2
    for record in found:
        plain, _ = RowSampling(0, 0, K - 4).pick(record.step, 0, 64, torch.device("cpu"))
        assert from_tensor(record.sketch.row_keys).tolist() == plain.tolist()
        rows = [tap.rows for tap in record.sketch.taps if tap.HasField("rows")]
        assert [len(from_tensor(one.scaled)) for one in rows] == [K - 4]
        assert not record.sketch.HasField("inclusion")
