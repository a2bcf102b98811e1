"""Time and memory of one run's windows: 32 layers, n = 1024 rows of r = 64, every live metric with its nulls.

    python benchmarks/estimators/window.py [--threads 2] [--layers 32] [--device cuda] [--json FILE]

Four windows, one cycle of the cadences, twice; the first cycle warms up and fixes references. Prints each metric's wall
and processor time a cycle, the mean and the worst window, and the median window of moment metrics alone over eight
cycles, with its processor time, which a busy machine changes less. Peak memory is that of the process, by computation,
as it grew.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infoplane.collector.estimate import compute
from infoplane.collector.estimate.compute import EstimateSettings, WindowComputation
from infoplane.collector.estimate.memory import Held, Memory
from infoplane.collector.estimate.view import TapView, TokensView, UnitView, WindowView
from infoplane.collector.metrics import METRICS
from infoplane.collector.metrics.needs import TapMoments
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor
from infoplane.wire.rows import scaled_rows

ROWS, DIM, TOKENS, CLASSES = 1024, 64, 16_384, 64
CYCLE = 4
MOMENT_CYCLES = 8
Spent = dict[str, list[float]]


def window(layers: int, number: int) -> WindowView:
    """Return a window of a network whose layers hand on most of what they get, and learn a label."""
    generator = np.random.default_rng([7, number])
    keys = np.sort(generator.choice(2**62, ROWS, replace=False)).astype(np.uint64)
    labels = generator.integers(0, CLASSES, ROWS)
    centres = np.random.default_rng(1).normal(size=(CLASSES, DIM))
    x = generator.normal(size=(ROWS, DIM))
    taps = {}
    for layer in range(layers):
        x = 0.9 * x + 0.3 * np.tanh(generator.normal(size=x.shape)) + 0.1 * centres[labels]
        name = f"{layer:02}/block"
        taps[name] = TapView(sketch(name, x), to_tensor(keys), 1.0)
    return WindowView(
        run="benchmark", attempt=1, window=number, first_step=128 * number, last_step=128 * number + 127,
        units=(UnitView("layers/00-31", 8, 8), UnitView("tokens", 8, 8)), taps=taps,
        tokens=TokensView(tokens(keys, labels, generator), 1.0),
    )  # fmt: skip


def sketch(name: str, x: np.ndarray) -> pb.TapSketch:
    """Return a tap with moments, rows and norms."""
    scaled, scale = scaled_rows(x.astype(np.float32))
    factor = TOKENS / len(x)
    outer = (x.T @ x)[np.triu_indices(DIM)] * factor
    return pb.TapSketch(
        tap=name, width=4096,
        moments=pb.Moments(n=TOKENS, total=to_tensor(x.sum(0) * factor), outer=to_tensor(outer)),
        norms=pb.Norms(n=TOKENS, sum_square=float((x**2).sum() * factor), sum_fourth=1.0, maximum=10.0),
        rows=pb.Rows(scaled=to_tensor(scaled), scale=to_tensor(scale)),
    )  # fmt: skip


def tokens(keys: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> pb.Tokens:
    """Return the tokens' columns."""
    columns = {
        "target": labels.astype(np.int32),
        "log_prob": -generator.exponential(size=ROWS).astype(np.float32),
        "entropy": generator.exponential(size=ROWS).astype(np.float32),
        "valid": np.ones(ROWS, np.uint8),
    }
    return pb.Tokens(
        row_keys=to_tensor(keys), token_mode="buckets", vocabulary=CLASSES,
        columns=[pb.Column(name=n, values=to_tensor(v)) for n, v in columns.items()],
    )  # fmt: skip


def cycle(
    layers: int, first: int, held: Held, settings: EstimateSettings
) -> tuple[list[float], list[float], Held]:
    """Compute one cycle of windows; return the wall and processor seconds of each."""
    seconds, busy = [], []
    for number in range(first, first + CYCLE):
        view = window(layers, number)
        memory = Memory(held, number)
        start, busy_start = time.perf_counter(), time.process_time()
        results = list(WindowComputation(view, settings, memory).results(pb.Pane(), 0))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - busy_start)
        held = memory.after
        assert results
        assert not [r.metric for r in results if r.undefined == "error"]
    return seconds, busy, held


def watch(spent: Spent) -> None:
    """Add up the time of every computation."""
    original = compute._estimates

    def timed(inputs: Any, metric: Any, source: Any, context: Any) -> Any:
        begin = (time.perf_counter(), time.process_time(), _peak())
        found = original(inputs, metric, source, context)
        end = (time.perf_counter(), time.process_time(), _peak())
        name = f"{source.family or metric.name} ({source.estimator})"
        spent[name] = [a + e - b for a, b, e in zip(spent[name], begin, end, strict=True)]
        return found

    compute._estimates = timed


def name_of(device: str) -> str:
    """Return what a person calls the device."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--device", default="cpu", help="of the estimators")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spent: Spent = defaultdict(lambda: [0.0, 0.0, 0.0])
    watch(spent)
    settings = EstimateSettings(METRICS, device=arguments.device)
    *_, held = cycle(arguments.layers, 0, {}, settings)
    first = {name: values[2] for name, values in spent.items()}
    spent.clear()
    seconds, _, held = cycle(arguments.layers, CYCLE, held, settings)
    moments = tuple(m for m in METRICS if all(isinstance(s.need, TapMoments) for s in m.sources))
    table = sorted(spent.items(), key=lambda item: -item[1][0])
    alone = EstimateSettings(moments, device=arguments.device)
    of_moments: tuple[list[float], list[float]] = ([], [])
    for number in range(2, 2 + MOMENT_CYCLES):
        wall, busy, held = cycle(arguments.layers, number * CYCLE, held, alone)
        of_moments[0].extend(wall)
        of_moments[1].extend(busy)
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, {arguments.threads} threads, "
        f"{name_of(arguments.device)}, {arguments.layers} layers, n = {ROWS}, r = {DIM}\n"
    )
    print(
        "| computation | wall s a cycle | processor s | peak MB, first cycle |\n|---|---|---|---|"
    )
    for name, (took, used, _) in table:
        print(f"| {name} | {took:.3f} | {used:.3f} | +{first.get(name, 0.0):.0f} |")
    summary = {
        "mean_window_s": sum(seconds) / CYCLE,
        "worst_window_s": max(seconds),
        "moment_metrics_s": statistics.median(of_moments[0]),
        "moment_metrics_processor_s": statistics.median(of_moments[1]),
        "peak_mb": _peak(),
    }
    print(
        f"\nwindow: mean {summary['mean_window_s']:.2f} s, worst {summary['worst_window_s']:.2f} s; moment metrics "
        f"alone {1e3 * summary['moment_metrics_s']:.0f} ms, processor "
        f"{1e3 * summary['moment_metrics_processor_s']:.0f} ms; peak {summary['peak_mb']:.0f} MB"
    )
    if arguments.json:
        parts = {name: values[:2] for name, values in table}
        arguments.json.write_text(json.dumps({**summary, "parts": parts}, indent=1))


if __name__ == "__main__":
    main()
