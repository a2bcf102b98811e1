"""What the agent costs: idle hooks, its own time at the default level, and step time with and without sampling.

    python benchmarks/agent/overhead.py [--pairs 12] [--layers 6] [--width 384]

Own time = (time on the training thread in sampled hooks and at boundaries + CPU time of the publisher and of its
transport) / step time, as the agent reports it about itself. Blocks of one interval (16 steps) run in random order
with sampling on and paused, in one process; the ratio of their medians gets a bootstrap interval over the pairs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from infoplane.agent import Monitor, attach

BLOCK_STEPS = 16
BUDGET_SHARE = 0.005


class Layer(nn.Module):
    """A pre-norm transformer layer with heads of width 64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act, self.down = (
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x of the same shape, (B, S, d)."""
        batch, length, width = x.shape
        parts = self.qkv(self.norms[0](x)).view(batch, length, 3, -1, 64).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(self.act(self.up(self.norms[1](x))))


class Model(nn.Module):
    """A byte-level language model."""

    def __init__(self, layers: int, width: int, vocabulary: int = 256) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.final_norm, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy in nats."""
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        logits = self.lm_head(self.final_norm(x))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def idle_us(model: nn.Module, monitor: Monitor, calls: int = 3_000, repeats: int = 31) -> float:
    """Return what an idle agent adds to one forward of the whole model, in microseconds.

    Between sampled micro-batches only one hook stays, in the root. Median over CPU times, so that a busy machine
    does not count.
    """
    root = nn.Identity()
    enter = next(h for h in model._forward_pre_hooks.values() if "infoplane" in type(h).__module__)
    plain = nn.Identity()
    root.register_forward_pre_hook(enter, with_kwargs=True)
    monitor.pause()

    def call(module: nn.Module) -> float:
        start = time.thread_time()
        for _ in range(calls):
            module(None)
        return (time.thread_time() - start) / calls * 1e6

    return statistics.median(call(root) - call(plain) for _ in range(repeats))


def armed_hooks(model: nn.Module) -> int:
    """Return how many hooks of the agent are inside the model, the root's one left out."""
    inner = [module for module in model.modules() if module is not model]
    return sum(
        "infoplane" in type(hook).__module__
        for module in inner
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    )


class Trainer:
    """Runs blocks of steps and keeps their times."""

    def __init__(self, args: argparse.Namespace, monitor_path: Path) -> None:
        torch.manual_seed(0)
        self.model = Model(args.layers, args.width)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.ids = torch.randint(0, 256, (args.batch, args.length + 1))
        self.monitor: Monitor = attach(
            self.model, config={"transport": "file", "file.path": str(monitor_path)}, run="overhead"
        )

    @property
    def num_parameters(self) -> int:
        """Parameters of the model."""
        return sum(p.numel() for p in self.model.parameters())

    def block(self, *, is_on: bool) -> tuple[float, float]:
        """Return (wall, CPU of the process) seconds of a step, means over one interval."""
        (self.monitor.resume if is_on else self.monitor.pause)()
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(BLOCK_STEPS):
            loss = self.model(self.ids[:, :-1], self.ids[:, 1:])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.monitor.log(loss=loss)
            self.monitor.step()
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        return wall / BLOCK_STEPS, cpu / BLOCK_STEPS


def bootstrap(on: np.ndarray, off: np.ndarray, rounds: int = 5000) -> tuple[float, float, float]:
    """Return (ratio of medians - 1, lower, upper 95 %) over resampled pairs."""
    generator = np.random.default_rng(0)
    picks = generator.integers(0, on.size, size=(rounds, on.size))
    ratios = np.median(on[picks], axis=1) / np.median(off[picks], axis=1) - 1
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(on) / np.median(off) - 1), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("command:", " ".join(sys.argv))
    print(
        f"versions: python {platform.python_version()}, torch {torch.__version__}, {args.threads} threads"
    )
    with TemporaryDirectory() as folder:
        measure(args, Path(folder) / "records.log")


def measure(args: argparse.Namespace, path: Path) -> None:
    trainer = Trainer(args, path)
    # The first sampled step builds the projections and warms the kernels up.
    trainer.block(is_on=True)
    before = trainer.monitor.stats()
    generator = np.random.default_rng(1)
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(args.pairs):
        for is_on in generator.permutation([True, False]).tolist():
            times[is_on].append(trainer.block(is_on=is_on))
    idle, inside = idle_us(trainer.model, trainer.monitor), armed_hooks(trainer.model)
    trainer.monitor.close()
    after = trainer.monitor.stats()
    spent = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in after}
    print(
        f"idle: {inside} hooks inside the model, {idle:.1f} us per forward of the whole model in the root's one"
    )
    on, off = np.array(times[True]), np.array(times[False])
    step_seconds = float(on[:, 0].mean())
    sampled = spent["sampled_steps"]
    own = (
        spent["hook_seconds"]
        + spent["publisher_cpu_seconds"]
        + spent.get("transport_cpu_seconds", 0)
    )
    cpu_ms = on[:, 1].mean() * 1e3
    print(f"model: {trainer.num_parameters / 1e6:.1f} M parameters")
    print(f"step: {step_seconds * 1e3:.0f} ms wall, {cpu_ms:.0f} ms CPU")
    print(
        f"per sampled step: {spent['hook_seconds'] / sampled * 1e3:.2f} ms training thread, "
        f"{spent['publisher_cpu_seconds'] / sampled * 1e3:.2f} ms publisher CPU, "
        f"{spent['bytes_sent'] / sampled / 1e3:.0f} kB"
    )
    share = own / sampled / (BLOCK_STEPS * step_seconds)
    print(f"own time: {share:.3%} of step time at the default level (budget {BUDGET_SHARE:.1%})")
    for column, clock in enumerate(("wall", "process CPU")):
        ratio, low, high = bootstrap(on[:, column], off[:, column])
        print(f"{clock} on / paused - 1: {ratio:+.2%}, 95 % interval {low:+.2%} .. {high:+.2%}")


if __name__ == "__main__":
    main()
