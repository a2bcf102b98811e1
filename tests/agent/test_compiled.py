"""Taps in compiled models: graphs counted, breaks counted, and losses compared bit by bit."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.utils import counters

# torch looks at .grad of activations while it traces, and warns itself of that.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
STEPS = 6
SAMPLED = {0, 2, 4}
LAYERS = (
    9  # more than torch.compile's limit of recompilations, so that a graph per layer would show
)


class Backend:
    """Compiles with aot_eager, and counts the graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, module: Any, inputs: Any) -> Any:
        self.graphs += 1
        return lookup_backend("aot_eager")(module, inputs)


def in_place_before(model: nn.Module, attach: Callable[[nn.Module], None], backend: Any) -> Any:
    model.compile(backend=backend)
    attach(model)
    return model


def in_place_after(model: nn.Module, attach: Callable[[nn.Module], None], backend: Any) -> Any:
    attach(model)
    model.compile(backend=backend)
    return model


def outside(model: nn.Module, attach: Callable[[nn.Module], None], backend: Any) -> Any:
    compiled = torch.compile(model, backend=backend)
    attach(compiled)
    return compiled


def block_by_block(model: Any, attach: Callable[[nn.Module], None], backend: Any) -> Any:
    attach(model)
    for block in model.blocks:
        block.compile(backend=backend)
    return model


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def train(model: Any, advance: Callable[[], None], steps: int = STEPS) -> list[str]:
    """Return the losses of steps of two micro-batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = torch.Generator().manual_seed(3)
    torch.manual_seed(5)  # of the dropout
    losses = []
    for _ in range(steps):
        for _ in range(2):
            ids = torch.randint(0, 61, (4, 17), generator=data)
            loss = model(ids[:, :-1], ids[:, 1:])
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item().hex())
        advance()
    return losses


WAYS = (in_place_before, in_place_after, outside, block_by_block)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reentrant", [None, False])
def test_two_graphs_no_break_and_equal_losses(
    make_loop: Any, make_model: Any, way: Any, reentrant: bool | None
) -> None:
    plain, watched = make_model(layers=LAYERS), make_model(layers=LAYERS)
    watched.load_state_dict(plain.state_dict())
    plain.reentrant = watched.reentrant = reentrant
    loops: list[Any] = []
    backend = Backend()
    target = way(
        watched, lambda model: loops.append(make_loop(model, **{"sampling.base_level": 1})), backend
    )
    losses = train(target, loops[0].monitor.step)
    assert counters["graph_break"] == {}
    # Block by block, the first has a hook on its input besides, so it has graphs of its own.
    assert backend.graphs == (4 if way is block_by_block else 2)
    backend.graphs = 0
    torch._dynamo.reset()
    assert losses == train(way(plain, lambda model: None, backend), lambda: None)
    assert backend.graphs == 1
    taps = loops[0].taps()
    assert set(taps) == SAMPLED
    names = {f"{i:02}/{site}" for i in range(LAYERS) for site in ("block", "act")}
    # Sites that the profile adds may come on top.
    assert all(names | {"embed", "final_norm"} <= set(found) for found in taps.values())
    assert {tap.moments.n for found in taps.values() for tap in found.values()} <= {0.0, 64.0}
    stats = loops[0].monitor.stats()
    assert not {name: value for name, value in stats.items() if "error" in name and value}


def test_compiled_and_eager_taps_say_the_same(make_loop: Any, make_model: Any) -> None:
    found = []
    for way in (None, outside):
        model = make_model(layers=2)
        model.load_state_dict(found[0][1] if found else model.state_dict())
        state = copy.deepcopy(model.state_dict())
        loops: list[Any] = []
        attach = lambda m, loops=loops: loops.append(make_loop(m))  # noqa: E731
        if way is None:
            attach(model)
            train(model, loops[0].monitor.step, steps=2)
        else:
            train(way(model, attach, "aot_eager"), loops[0].monitor.step, steps=2)
        found.append((loops[0].taps(), state))
    assert found[0][0] == found[1][0]


def test_the_tokens_come_through_a_compiled_head(make_loop: Any, make_model: Any) -> None:
    loops: list[Any] = []
    target = outside(make_model(), lambda m: loops.append(make_loop(m)), "aot_eager")
    train(target, loops[0].monitor.step, steps=2)
    columns = [{c.name for c in r.tokens.columns} for r in loops[0].records("tokens")]
    assert len(columns) == 2
    assert all({"target", "log_prob", "entropy"} <= names for names in columns)


def test_attaching_after_the_first_compiled_call_is_refused_loudly(
    make_loop: Any, make_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    model.compile(backend="aot_eager")
    train(model, lambda: None, steps=1)
    loop = make_loop(model)
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        train(model, loop.monitor.step)
    messages = [r.getMessage() for r in caplog.records if r.name == "infoplane.agent"]
    assert len(messages) == 1
    assert "before the first forward of the compiled model" in messages[0]
    assert loop.monitor.stats()["taps_unreachable"] == 1
    assert loop.records("sketch") == []


def test_attaching_to_what_was_compiled_instead_of_the_compiled_is_said(
    make_loop: Any, make_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    loop = make_loop(model)
    compiled = torch.compile(model, backend="aot_eager")
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        train(compiled, loop.monitor.step)
    assert any("what torch.compile returned" in record.getMessage() for record in caplog.records)


def test_detach_leaves_no_hook_and_compiled_code_goes_on(make_loop: Any, make_model: Any) -> None:
    model = make_model()
    loops: list[Any] = []
    in_place_before(model, lambda m: loops.append(make_loop(m)), "aot_eager")
    train(model, loops[0].monitor.step, steps=2)
    loops[0].monitor.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert "CallWrapper" not in type(model._compiled_call_impl).__name__
    train(model, lambda: None, steps=1)


def test_an_error_behind_the_operator_ends_taps_and_not_training(
    make_loop: Any, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infoplane.agent import pending

    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(pending, "project", fail)
    loops: list[Any] = []
    target = outside(make_model(), lambda m: loops.append(make_loop(m)), "aot_eager")
    assert len(train(target, loops[0].monitor.step)) == STEPS
    assert loops[0].monitor.stats()["breaker_open"] == 1


def test_probes_that_look_into_the_forward_pass_step_back_and_nobody_waits_for_them(
    make_loop: Any, make_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loops: list[Any] = []
    settings = {"probes.gradients": "on", "probes.weights": "on", "sampling.width": 1}
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        target = outside(
            make_model(), lambda m: loops.append(make_loop(m, **settings)), "aot_eager"
        )
    assert any("goes without: gradients" in record.getMessage() for record in caplog.records)
    train(target, loops[0].monitor.step, steps=2)
    records = loops[0].records()
    assert not any("gradients" in record.units for record in records)
    assert "weights" in {record.unit for record in records if record.WhichOneof("body") == "sketch"}
