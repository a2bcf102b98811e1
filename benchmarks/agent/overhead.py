"""What the agent costs a rank, line by line of its budget, in fresh processes.

    python benchmarks/agent/overhead.py [--processes 20] [--quick] [--json FILE] [--write]

Own time = time on the training thread in sampled hooks and at boundaries + CPU time of the publisher and of its
transport, as the agent counts it about itself; its share is taken of the wall time of the default 16 steps. All of it
is spent on, or because of, a sampled step, so the trial samples every 4th. A sampled step is compared
with an unsampled one in pairs of random order; the median of their ratios gets a bootstrap interval. Beside the agent,
in the same run: what others do in forward hooks (rivals.py), at the same steps.

Judge wall times on a quiet machine only. `--write` leaves a dated page beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import Size
from results import Line, page, table

TRIAL = Path(__file__).with_name("trial.py")
METHODS = ("agent", "host copies", "host reads")


def trial(kind: str, options: dict[str, Any]) -> Any:
    """Return what one fresh process measured."""
    command = [sys.executable, str(TRIAL), kind, json.dumps(options)]
    threads = str(options["threads"])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INFOPLANE_")}
    environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    start = time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    print(f"{kind}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def median_ratio(on: Any, off: Any, rounds: int = 5000) -> tuple[float, float, float]:
    """Return (median of on / off - 1, lower, upper 95 %) over resampled pairs."""
    ratios = np.asarray(on, dtype=float) / np.asarray(off, dtype=float) - 1
    picks = np.random.default_rng(0).integers(0, ratios.size, size=(rounds, ratios.size))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def own_lines(processes: int, options: dict[str, Any]) -> list[Line]:
    """Return the lines on own time, memory and bytes, over fresh processes."""
    found = [trial("own", options) for _ in range(processes)]
    ratios = [one["ratio"] for one in found]
    first = found[0]
    size = f"{first['parameters'] / 1e6:.1f} M parameters, {np.median([f['step_seconds'] for f in found]):.2f} s a step"
    parts = ", ".join(
        f"{label} {1e3 * np.median([f[f'{name}_per_sampled_step'] for f in found]):.2f} ms"
        for label, name in (
            ("training thread", "hook_seconds"),
            ("publisher", "publisher_cpu_seconds"),
            ("transport", "transport_cpu_seconds"),
        )
    )
    grown = [one["rss_growth"] / 2**20 for one in found]
    sent = float(np.median([one["bytes_per_sampled_step"] for one in found]))
    note = f"{processes} processes; {size}"
    return [
        Line("own time / step time, median", float(np.median(ratios)), 0.004, "ratio", note),
        Line("own time / step time, p95", float(np.percentile(ratios, 95)), 0.005, "ratio", parts),
        Line("growth of resident memory, largest", max(grown), 100.0, "MiB", "from before attach"),
        Line("bytes of a rank and sampled step", sent / 1e3, None, "kB", "before compression"),
    ]


def idle_lines(options: dict[str, Any]) -> list[Line]:
    """Return the lines on steps that are not sampled."""
    found = trial("idle", options)
    return [
        Line("idle hook", found["idle_us"], 1.5, "us", "a forward of the whole model"),
        Line(
            "unsampled step, hook and boundary", found["step_us"], None, "us", "one forward a step"
        ),
    ]


def pair_lines(options: dict[str, Any]) -> list[Line]:
    """Return the lines on sampled steps, of the agent and of what others do."""
    found = trial("pairs", options)
    lines = []
    for method, times in found.items():
        on, off = np.array(times["on"]), np.array(times["off"])
        for column, clock in enumerate(("wall", "CPU")):
            ratio, low, high = median_ratio(on[:, column], off[:, column])
            budget = 0.03 if (method, clock) == ("agent", "wall") else None
            note = f"95 % interval {low:+.2%} .. {high:+.2%}, {len(on)} pairs"
            lines.append(
                Line(
                    f"sampled / unsampled step - 1, {method}, {clock}", ratio, budget, "ratio", note
                )
            )
    return lines


def launch_lines(options: dict[str, Any]) -> list[Line]:
    """Return what a loop of tiny operations feels of the publisher, scaled to the default interval."""
    found = trial("launch", options)
    ratio, low, high = median_ratio(found["busy"], found["alone"])
    note = f"95 % interval {low:+.2%} .. {high:+.2%}; in the {options['launch_seconds']} s after every sampled step"
    return [Line("launch-bound loop beside the publisher - 1", ratio, 0.02, "ratio", note)]


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=20, help="fresh processes for own time")
    parser.add_argument("--samples", type=int, default=4, help="sampled steps in each")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument(
        "--rounds", type=int, default=31, help="of the idle and the launch-bound loop"
    )
    parser.add_argument("--launch-seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--publisher", choices=("thread", "sidecar"), default="thread")
    parser.add_argument("--quick", action="store_true", help="a tiny model: does it all work?")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--write", action="store_true", help="write results-DATE.md")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    size = Size(layers=2, width=64, batch=2, length=32) if args.quick else Size()
    options = {
        "size": asdict(size), "threads": args.threads, "publisher": args.publisher, "samples": args.samples,
        "pairs": args.pairs, "rounds": args.rounds, "launch_seconds": args.launch_seconds, "methods": METHODS,
    }  # fmt: skip
    lines = own_lines(args.processes, options)
    lines += idle_lines(options) + pair_lines(options) + launch_lines(options)
    header = {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, {args.threads} threads",
    }
    print(table(lines))
    if args.json:
        args.json.write_text(
            json.dumps({**header, "lines": [asdict(line) for line in lines]}, indent=1)
        )
    if args.write:
        path = Path(__file__).with_name(f"results-{header['date']}.md")
        path.write_text(page(header, lines))
    return int(any(line.is_broken for line in lines) and not args.quick)


if __name__ == "__main__":
    sys.exit(main())
