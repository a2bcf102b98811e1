"""What the agent costs a CUDA device and the thread that feeds it, by events on the device.

    python benchmarks/agent/on_device.py [--pairs 40] [--rivals 3] [--layers 24 --width 1024] [--write]

One model in bfloat16 under autocast, batches on the device, nothing read back. Steps come in groups of the default
interval: events stand around a group, with one sampled step in it or none, in random order; the medians of ratios get a
bootstrap interval. The time of the host is taken beside, as a thread that launches late starves the device. Own time is
what the agent counts about itself. Beside the agent, in the same run: what others do in forward hooks (rivals.py), at
the same steps.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from models import Model, Size
from overhead import median_ratio
from results import Line, page, table
from rivals import HostCopies, HostReads, Rival, tapped
from trial import INTERVAL, watch

OPTIONS = {"publisher": "thread"}
Times = dict[bool, list[tuple[float, float, float]]]


class DeviceTrainer:
    """Trains one model on one batch; a step launches and waits for nothing."""

    def __init__(self, size: Size, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = Model(size).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, foreach=True)
        ids = torch.randint(0, size.vocabulary, (size.batch, size.length + 1))
        self.ids = ids.to(device)

    def step(self) -> torch.Tensor:
        """Train one step, and return the loss on the device."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = self.model(self.ids[:, :-1], self.ids[:, 1:])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def timed(group: Callable[[], None]) -> tuple[float, float, float]:
    """Return (seconds on the device, wall seconds of the launches, wall seconds of all) of a group of steps."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start = time.perf_counter()
    begin.record()
    group()
    end.record()
    launched = time.perf_counter()
    torch.cuda.synchronize()
    done = time.perf_counter()
    return begin.elapsed_time(end) / 1e3, launched - start, done - start


def compared(prepare: Callable[[bool], None], group: Callable[[], None], pairs: int) -> Times:
    """Return the times of groups with (True) and without a sampled step."""
    random = np.random.default_rng(1)
    times: Times = {True: [], False: []}
    for pair in range(-2, pairs):
        for is_on in random.permutation([True, False]).tolist():
            prepare(is_on)
            taken = timed(group)
            if pair >= 0:
                times[is_on].append(taken)
    return times


def agent_lines(size: Size, device: torch.device, pairs: int, profile: str) -> list[Line]:
    """Return the lines of the agent under one profile."""
    trainer = DeviceTrainer(size, device)
    for _ in range(3):
        trainer.step()
    torch.cuda.synchronize()
    before_bytes = torch.cuda.memory_allocated()
    with (
        TemporaryDirectory() as folder,
        watch(trainer.model, folder, OPTIONS, profile=profile) as monitor,
    ):

        def group() -> None:
            for _ in range(INTERVAL):
                monitor.log(loss=trainer.step())
                monitor.step()

        def prepare(is_on: bool) -> None:
            (monitor.resume if is_on else monitor.pause)()

        for _ in range(4):
            group()
        before = monitor.stats()
        times = compared(prepare, group, pairs)
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated() - before_bytes
        time.sleep(1.0)
        after = monitor.stats()
    spent = {name: value - before.get(name, 0.0) for name, value in after.items()}
    sampled = spent["sampled_steps"]
    own = sum(
        spent.get(f"{part}_seconds", 0.0) for part in ("hook", "publisher_cpu", "transport_cpu")
    )
    step_s = float(np.median([t[2] for t in times[False]])) / INTERVAL
    share = own / sampled / (INTERVAL * step_s)
    faults = {n: v for n, v in after.items() if ("error" in n or "dropped" in n) and v}
    how = f"{sampled:.0f} sampled steps, {1e3 * own / sampled:.2f} ms each, step {1e3 * step_s:.1f} ms"
    return [
        *ratio_lines(f"agent, {profile}", times, profile == "standard"),
        Line(f"own time / step time, {profile}", share, None, "ratio", how),
        Line(
            f"memory of the device, {profile}",
            held / 2**20,
            None,
            "MiB",
            f"faults: {faults or 'none'}",
        ),
    ]


def ratio_lines(name: str, times: Times, has_budget: bool = False) -> list[Line]:
    """Return a sampled step against one that is not, by each clock, from groups of INTERVAL steps."""
    on, off = np.array(times[True]), np.array(times[False])
    lines = []
    for column, clock in enumerate(("device", "launches", "wall")):
        # The whole difference belongs to the group's one sampled step.
        ratio, low, high = (INTERVAL * one for one in median_ratio(on[:, column], off[:, column]))
        note = f"95 % interval {low:+.2%} .. {high:+.2%}, {len(on)} groups of {INTERVAL}"
        budget = 0.03 if has_budget and clock != "launches" else None
        lines.append(
            Line(f"sampled / unsampled step - 1, {name}, {clock}", ratio, budget, "ratio", note)
        )
    return lines


def rival_lines(size: Size, device: torch.device, pairs: int) -> list[Line]:
    """Return the lines of what others do."""
    lines = []
    for name, kind in (("host copies", HostCopies), ("host reads", HostReads)):
        trainer = DeviceTrainer(size, device)
        rival = kind(tapped(trainer.model), INTERVAL)
        lines += ratio_lines(name, rival_times(trainer, rival, pairs))
        rival.close()
    return lines


def rival_times(trainer: DeviceTrainer, rival: Rival, pairs: int) -> Times:
    """Return the times of groups in which `rival` acts once, and of others."""

    def group() -> None:
        for _ in range(INTERVAL):
            trainer.step()
            rival.advance()

    def prepare(is_on: bool) -> None:
        rival.interval = INTERVAL if is_on else 1 << 60
        rival.step = 0 if is_on else 1

    return compared(prepare, group, pairs)


def told(lines: list[Line]) -> list[Line]:
    """Print lines as soon as they are there: a run on a shared device may be cut short."""
    print(table(lines), flush=True)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40, help="of groups, for the agent")
    parser.add_argument("--rivals", type=int, default=3, help="pairs for what others do; 0: none")
    for name, value in vars(
        Size(layers=24, width=1024, batch=8, length=1024, vocabulary=32_000)
    ).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--write", action="store_true", help="write device-DATE.md")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here, nothing was measured", file=sys.stderr)
        return 3
    size = Size(args.layers, args.width, args.batch, args.length, args.vocabulary)
    device = torch.device("cuda")
    lines: list[Line] = []
    for profile in ("standard", "deep"):
        lines += told(agent_lines(size, device, args.pairs, profile))
    if args.rivals:
        lines += told(rival_lines(size, device, args.rivals))
    parameters = sum(p.numel() for p in Model(size).parameters())
    header = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}",
        "model": f"{parameters / 1e6:.0f} M parameters, {size.batch} x {size.length} tokens, bfloat16",
    }
    if args.write:
        Path(__file__).with_name(f"device-{header['date']}.md").write_text(page(header, lines))
    return int(any(line.is_broken for line in lines))


if __name__ == "__main__":
    sys.exit(main())
