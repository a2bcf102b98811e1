"""One fresh process of overhead.py: prints one line of JSON. `trial.py KIND OPTIONS_AS_JSON`.

own       what the agent says that it cost, as a share of the default interval; memory; bytes
pairs     blocks with and without sampled steps in random order: how much slower is a sampled step?
idle      what an unsampled step's hook costs
launch    a loop of tiny operations beside the publisher, against the same loop alone
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from models import Size, Trainer
from rivals import HostCopies, HostReads, Rival, tapped
from torch import nn

from infoplane.agent import Monitor, attach

INTERVAL = 16  # of the default level: what the share of own time is stated for
LEVEL = 2  # of the trial, to see more sampled steps in less time: a sampled step costs the same at every level
WARM_SAMPLES = 3


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def watch(model: nn.Module, folder: str, options: dict[str, Any], **more: Any) -> Monitor:
    """Attach the agent with its defaults, but to a file and without its governor, which would hide the cost."""
    fixed = {"governor.enabled": False, "run": "overhead", "publisher": options["publisher"]}
    where = {"transport": "file", "file.path": str(Path(folder) / "records.iplog")}
    return attach(model, config={**fixed, **where, **more})


def own(options: dict[str, Any]) -> dict[str, Any]:
    """Train, and ask the agent what a sampled step cost and what the steps between cost, of the default interval."""
    trainer = Trainer(Size(**options["size"]))
    for _ in range(2):
        trainer.step()
    begin_rss = rss_bytes()
    level = {"sampling.base_level": LEVEL}
    with TemporaryDirectory() as folder, watch(trainer.model, folder, options, **level) as monitor:
        for _ in range(WARM_SAMPLES << LEVEL):
            _agent_step(trainer, monitor)
        _settle()
        before = monitor.stats()
        steps = options["samples"] << LEVEL
        walls = [_agent_step(trainer, monitor) for _ in range(steps)]
        _settle()
        after = monitor.stats()
        grown = rss_bytes() - begin_rss
    spent = {name: value - before.get(name, 0.0) for name, value in after.items()}
    parts = {
        n: spent.get(n, 0.0)
        for n in ("hook_seconds", "publisher_cpu_seconds", "transport_cpu_seconds")
    }
    sampled = spent["sampled_steps"]
    return {
        "parameters": trainer.num_parameters,
        "step_seconds": statistics.fmean(walls),
        "ratio": sum(parts.values()) / sampled / (INTERVAL * statistics.fmean(walls)),
        "rss_growth": grown,
        "bytes_per_sampled_step": spent["bytes_sent"] / sampled,
        **{f"{name}_per_sampled_step": value / sampled for name, value in parts.items()},
    }


def _agent_step(trainer: Trainer, monitor: Monitor) -> float:
    def after(loss: torch.Tensor) -> None:
        monitor.log(loss=loss)
        monitor.step()

    return trainer.step(after)[0]


def _settle() -> None:
    """Wait until the publisher has sent what it was given and the sidecar, where there is one, has reported."""
    time.sleep(1.5)


def pairs(options: dict[str, Any]) -> dict[str, Any]:
    """Return step times, (wall, CPU) seconds, in pairs of a step that is sampled and one that is not, by method."""
    found: dict[str, Any] = {}
    for method in options["methods"]:
        trainer = Trainer(Size(**options["size"]))
        with TemporaryDirectory() as folder:
            found[method] = _paired(trainer, method, folder, options)
    return found


def _paired(trainer: Trainer, method: str, folder: str, options: dict[str, Any]) -> Any:
    monitor: Monitor | None = None
    rival: Rival | None = None
    if method == "agent":
        monitor = watch(trainer.model, folder, options, **{"sampling.base_level": 0})
    elif method != "nothing":
        kind = {"host copies": HostCopies, "host reads": HostReads}[method]
        rival = kind(tapped(trainer.model), 1)
    random = np.random.default_rng(1)
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for pair in range(-4, options["pairs"]):  # the first ones warm up
        for is_on in random.permutation([True, False]).tolist():
            taken = _method_step(trainer, monitor, rival, is_on=is_on)
            if pair >= 0:
                times[is_on].append(taken)
    for one in (monitor, rival):
        if one is not None:
            one.close()
    return {"on": times[True], "off": times[False]}


def _method_step(
    trainer: Trainer, monitor: Monitor | None, rival: Rival | None, *, is_on: bool
) -> tuple[float, float]:
    if monitor is not None:
        (monitor.resume if is_on else monitor.pause)()
    if rival is not None:
        rival.interval = 1 if is_on else 1 << 60
        rival.step = 0 if is_on else 1
    taken = trainer.step(lambda _: monitor.step() if monitor is not None else None)
    if rival is not None:
        rival.kept.clear()
    time.sleep(0.02)  # what the publisher does afterwards is the trial `launch`
    return taken


def idle(options: dict[str, Any]) -> dict[str, Any]:
    """Return what an idle agent adds: to one forward of the whole model, and to a whole step of one forward.

    One hook stays, in the root. CPU time, so that a busy machine counts less; medians of many short rounds.
    """
    with TemporaryDirectory() as folder:
        trainer = Trainer(Size(layers=2, width=64, batch=1, length=8))
        monitor = watch(trainer.model, folder, options)
        _agent_step(trainer, monitor)
        monitor.pause()
        root, plain = nn.Identity(), nn.Identity()
        _move_hooks(trainer.model, root)

        def step() -> None:
            root(None)
            monitor.step()

        step()
        rounds = range(options["rounds"])
        alone = statistics.median(_call_us(lambda: plain(None)) for _ in rounds)
        forward = statistics.median(_call_us(lambda: root(None)) for _ in rounds)
        whole = statistics.median(_call_us(step) for _ in rounds)
        monitor.close()
    return {"idle_us": forward - alone, "step_us": whole - alone}


def _move_hooks(model: nn.Module, root: nn.Module) -> None:
    """Hang the agent's hooks of the root of `model` into `root`, which computes nothing."""
    for kind in ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks"):
        getattr(root, kind).update(getattr(model, kind))


def _call_us(call: Callable[[], object], calls: int = 3_000) -> float:
    start = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - start) / calls * 1e6


def launch(options: dict[str, Any]) -> dict[str, Any]:
    """Return times of a loop that only launches: alone, and while the publisher sends at its full rate.

    The agent hands over a step of the big model every `every_s`; the loop belongs to nobody and feels the publisher
    through the GIL and the cores only.
    """
    trainer = Trainer(Size(**options["size"]))
    with TemporaryDirectory() as folder:
        monitor = watch(trainer.model, folder, options, **{"sampling.base_level": 0})
        for _ in range(4):
            _agent_step(trainer, monitor)
        rounds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(options["rounds"]):
            for is_busy in np.random.default_rng().permutation([True, False]).tolist():
                if is_busy:
                    _agent_step(trainer, monitor)  # its parcels are being encoded now
                else:
                    monitor.pause()
                    _agent_step(trainer, monitor)
                    monitor.resume()
                    time.sleep(0.05)
                rounds[is_busy].append(_launch_seconds(options["launch_seconds"]))
        monitor.close()
    return {"busy": rounds[True], "alone": rounds[False]}


def _launch_seconds(lasting_s: float) -> float:
    """Return the mean seconds of one iteration of ten tiny operations, over `lasting_s`."""
    x = torch.ones(8)
    count, start = 0, time.perf_counter()
    with torch.no_grad():
        while time.perf_counter() - start < lasting_s:
            for _ in range(10):
                x = x * 1.0
            count += 1
    return (time.perf_counter() - start) / count


KINDS = {"own": own, "pairs": pairs, "idle": idle, "launch": launch}


if __name__ == "__main__":
    torch.set_num_threads(json.loads(sys.argv[2])["threads"])
    print(json.dumps(KINDS[sys.argv[1]](json.loads(sys.argv[2]))))
