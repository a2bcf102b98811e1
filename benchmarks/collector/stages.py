"""What one core does in ASSEMBLE and ESTIMATE, without a broker.

    python benchmarks/collector/stages.py [--ranks 8] [--windows 6] [--repeats 5]

Replays a synthetic log through each stage and prints records a second of CPU time, their size, and seconds of CPU per
window and metric family. One thread; medians over the repeats, in one run.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from infoplane.collector.assemble.machine import assemble_stage
from infoplane.collector.drivers.replay import entry_of, run_stage
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.collector.testing import LAYERS, SyntheticRun
from infoplane.wire.topics import WINDOWS, Names


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of `call`."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}")
    run = SyntheticRun(ranks=given.ranks, steps=8 * given.windows, rows=16, dim=32)
    log = run.log()
    layers = [entry for entry in log if entry.key.endswith(LAYERS.encode())]
    size = statistics.mean(len(entry.value) for entry in layers)
    taken = cpu_seconds(lambda: list(run_stage(layers, assemble_stage())), given.repeats)
    print(f"ASSEMBLE: {len(layers) / taken:,.0f} records of {size / 1000:.1f} kB a CPU second")
    _estimates(log, given.windows, given.repeats)


def _estimates(log: list, windows: int, repeats: int) -> None:  # type: ignore[type-arg]
    panes = [e for e in run_stage(log, assemble_stage()) if e.topic is WINDOWS]
    entries = [entry_of(e, Names(), place) for place, e in enumerate(panes)]
    families = {
        "moments, norms, histograms, scalars": ("mutual", "usable"),
        "all": (),
    }
    for name, left_out in families.items():
        metrics = tuple(m for m in METRICS if not m.name.startswith(left_out or ("-",)))
        settings = EstimateSettings(metrics)
        taken = cpu_seconds(lambda s=settings: list(run_stage(entries, estimate_stage(s))), repeats)
        print(f"ESTIMATE, {name}: {1000 * taken / windows:.1f} ms of CPU a window of 4 taps")


if __name__ == "__main__":
    main()
