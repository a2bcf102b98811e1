"""The agent on a CUDA device: no synchronisation in whole steps, complete records, equal losses, a bounded cost."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from watched import faults_of, never_waiting

from infoplane.agent import attach
from infoplane.agent.copies import PinnedCopy
from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb

STEPS = 12


def _toy() -> Any:
    """Return the small model of the agent's tests."""
    path = Path(__file__).parents[1] / "agent" / "conftest.py"
    spec = importlib.util.spec_from_file_location("agent_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    return module.Model(width=64)


def _settings() -> dict[str, Any]:
    return {"transport": "memory", "sampling.base_level": 1, "governor.enabled": False}


def _train(
    model: Any, monitor: Any, device: torch.device, *, may_wait: bool = True, busy_cycles: int = 0
) -> list[float]:
    """Return the losses, read only at the end; before the first step the device is busy for `busy_cycles`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = torch.Generator().manual_seed(3)
    batches = [torch.randint(0, 61, (8, 33), generator=data).to(device) for _ in range(STEPS)]
    losses = []
    if busy_cycles:
        torch.cuda.synchronize()
        torch.cuda._sleep(busy_cycles)
    torch.manual_seed(5)
    for step, ids in enumerate(batches):
        # The first sampled steps build the projection and load kernels.
        with never_waiting() if not may_wait and step >= 4 else nullcontext():
            loss = model(ids[:, :-1], ids[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            if monitor is not None:
                monitor.step()
    return [loss.item() for loss in losses]


def test_whole_steps_never_synchronise(cuda: torch.device) -> None:
    model = _toy().to(cuda)
    monitor = attach(model, config=_settings(), run="sync")
    _train(model, monitor, cuda, may_wait=False)
    monitor.close()
    assert not faults_of(monitor)


def test_records_are_complete_and_losses_equal(cuda: torch.device) -> None:
    plain, watched = _toy().to(cuda), _toy().to(cuda)
    expected = _train(plain, None, cuda)
    monitor = attach(watched, config=_settings(), run="parity")
    assert _train(watched, monitor, cuda) == expected
    monitor.close()
    records = [decode(message.value, pb.Record) for message in monitor.messages]
    sketched = [r.step for r in records if r.WhichOneof("body") == "sketch"]
    assert sorted(set(sketched)) == list(range(0, STEPS, 2))


def test_a_captured_graph_runs_beside_the_agent(cuda: torch.device) -> None:
    """A module with hooks cannot be captured; one that the agent has let go of can."""
    model = _toy().to(cuda).eval()
    monitor = attach(model, config=_settings(), run="graphs")
    monitor.detach()
    ids = torch.randint(0, 61, (8, 32), device=cuda)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        model(ids)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        output = model(ids)
    graph.replay()
    with torch.no_grad():
        torch.testing.assert_close(output, model(ids))
    monitor.close()


def test_a_copy_is_queued_and_nobody_waits(cuda: torch.device) -> None:
    """The device is kept busy: the copy starts behind its work, and holds what was written before, not after."""
    flat = torch.zeros(1 << 20, dtype=torch.uint8, device=cuda)
    copy = PinnedCopy(flat, torch.cuda.Stream(cuda))
    assert torch.from_numpy(copy.array).is_pinned()
    assert copy.array.sum() == 0
    torch.cuda.synchronize()
    torch.cuda._sleep(200_000_000)  # about 0.1 s of the device's clock
    flat.fill_(7)
    with never_waiting():
        copy.start()
        assert not copy.is_done()
    copy.wait()
    assert copy.is_done()
    assert (copy.array == 7).all()


def test_a_full_ring_drops_the_newest_step(cuda: torch.device) -> None:
    """Slots come back when their copy is done: behind a busy device they run out, and training goes on."""
    model = _toy().to(cuda)
    monitor = attach(model, config=_settings() | {"buffers.slots": 2}, run="ring")
    _train(model, monitor, cuda)
    _train(model, monitor, cuda, busy_cycles=3_000_000_000)  # over a second: no copy ends before
    monitor.close()
    stats = monitor.stats()
    assert sum(value for name, value in stats.items() if "dropped" in name) > 0
    assert not {name: value for name, value in stats.items() if "error" in name and value}


def test_reward_events_of_tensors_on_the_device(cuda: torch.device) -> None:
    model = _toy().to(cuda)
    monitor = attach(model, config=_settings(), run="rewards")
    ids = torch.randint(0, 61, (4, 16), device=cuda)
    rewards = torch.arange(4.0, device=cuda)
    torch.cuda.synchronize()
    # The mode is that of the process: keep the publisher, which may wait, from values until it is over.
    torch.cuda._sleep(500_000_000)
    with never_waiting():
        monitor.observe_rollouts(ids[:, :8], ids, rewards=rewards)
    monitor.close()
    (events,) = [m for m in monitor.messages if m.topic.endswith("events")]
    batch = decode(events.value, pb.EventBatch)
    columns = {c.name: from_tensor(c.values) for c in batch.table.columns}
    assert sorted(columns["reward"].tolist()) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_model_is_tapped(cuda: torch.device) -> None:
    model = _toy().to(cuda)
    compiled = torch.compile(model)
    monitor = attach(compiled, config=_settings(), run="compiled")
    _train(compiled, monitor, cuda)
    monitor.close()
    records = [decode(message.value, pb.Record) for message in monitor.messages]
    assert {r.step for r in records if r.WhichOneof("body") == "sketch"} == set(range(0, STEPS, 2))
