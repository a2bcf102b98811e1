"""KSG beside the packages that others use: time and error on the same arrays.

    OMP_NUM_THREADS=1 python benchmarks/estimators/against_mutual_information_packages.py \
        [--rounds 9] [--json FILE] [--write]

One thread each; start with OMP_NUM_THREADS=1. Rounds alternate between us and the other, and the
factor is the median of the rounds' ratios of processor time, so that a busy machine slows both.
Both get the same few taps in a round: ours in one call, benchmark-mi, which takes one pair, in one
call each. `--write` leaves a dated page beside this file. benchmark-mi runs in the environment that
`INFOPLANE_REQUIRE=oracles pytest tests/oracles/test_benchmark_mi.py` makes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from against_page import verdict, write
from sklearn.feature_selection import mutual_info_regression

from infoplane.estimators import ksg
from infoplane.estimators.mutual_information.columns import ksg_scalar

FOLDER = Path(__file__).parent
K = 3
TAPS = 4
WANTED = {("benchmark-mi", 1024): 10.0, ("benchmark-mi", 4096): 6.0}
WANTED |= {("scikit-learn", 1024): 5.0, ("scikit-learn", 4096): 5.0}
HEAD = (
    "| task | other | ours, ms | other, ms | faster, cpu | wanted | | faster, wall "
    "| our error | its error |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Round:
    """One call of each side."""

    ours_wall: float
    ours_cpu: float
    other_wall: float
    other_cpu: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    other: str
    n: int
    ours_ms: float
    other_ms: float
    faster_cpu: float
    faster_wall: float
    ours_error: float
    other_error: float
    rounds: int

    def markdown(self) -> str:
        """Return the line."""
        wanted, held = verdict(self.faster_cpu, WANTED[self.other, self.n])
        return (
            f"| {self.what}, n={self.n} | {self.other} | {self.ours_ms:.2f} | {self.other_ms:.2f} "
            f"| {self.faster_cpu:.1f} | {wanted} | {held} | {self.faster_wall:.1f} "
            f"| {self.ours_error:.4f} | {self.other_error:.4f} |"
        )


def correlated(n: int, d: int, nats: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normal pairs that share ``nats``, spread over all d columns."""
    generator = np.random.default_rng(seed)
    rho = math.sqrt(1.0 - math.exp(-2.0 * nats / d))
    x = generator.normal(size=(n, d))
    return x, rho * x + math.sqrt(1.0 - rho**2) * generator.normal(size=(n, d))


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a call gives, its wall and its processor seconds."""
    wall, busy = time.perf_counter(), time.process_time()
    value = call()
    return value, time.perf_counter() - wall, time.process_time() - busy


def row(what: str, other: str, n: int, rounds: list[Round], ours: float, others: float) -> Row:
    """Return the line of a comparison; the first round warms up and does not count."""
    held = rounds[1:]
    return Row(
        what=what,
        other=other,
        n=n,
        ours_ms=1e3 * statistics.median(r.ours_cpu for r in held),
        other_ms=1e3 * statistics.median(r.other_cpu for r in held),
        faster_cpu=statistics.median(r.other_cpu / r.ours_cpu for r in held),
        faster_wall=statistics.median(r.other_wall / r.ours_wall for r in held),
        ours_error=ours,
        other_error=others,
        rounds=len(held),
    )


def against_benchmark_mi(python: Path, n: int, d: int, rounds: int) -> Row:
    """Compare `TAPS` pairs of d + d columns."""
    pairs = [correlated(n, d, 1.0, seed=n + tap) for tap in range(TAPS)]
    a, b = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
    held, ours, theirs = [], 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{tap}.npz" for tap in range(TAPS)]
        for path, (x, y) in zip(paths, pairs, strict=True):
            np.savez(path, x=x, y=y)
        # numpy reads these when it is loaded; here torch counts, which is told below.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [str(python), str(FOLDER / "benchmark_mi_worker.py")]
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        for _ in range(rounds + 1):
            values, wall, cpu = timed(lambda: ksg(a, b, k=K))
            answers = []
            for path in paths:
                print(path, K, file=worker.stdin, flush=True)
                answers.append(json.loads(worker.stdout.readline()))
            others = [sum(answer[name] for answer in answers) for name in ("wall", "cpu")]
            held.append(Round(wall, cpu, *others))
            ours, theirs = float(values[0]), answers[0]["value"]
        worker.stdin.close()
        worker.wait(60)
    what = f"KSG k={K}, {d}+{d} columns, {TAPS} taps"
    return row(what, "benchmark-mi", n, held, abs(ours - 1.0), abs(theirs - 1.0))


def against_scikit_learn(n: int, columns: int, rounds: int) -> Row:
    """Compare many columns against one scalar; truths run from 0 to 1 nat."""
    generator = np.random.default_rng(n)
    truth = np.linspace(0.0, 1.0, columns)
    rho = np.sqrt(1.0 - np.exp(-2.0 * truth))
    y = generator.normal(size=n)
    x = rho * y[:, None] + np.sqrt(1.0 - rho**2) * generator.normal(size=(n, columns))
    a, b = torch.from_numpy(np.ascontiguousarray(x.T)), torch.from_numpy(y)
    held, ours, theirs = [], np.zeros(columns), np.zeros(columns)
    for _ in range(rounds + 1):
        found, wall, cpu = timed(lambda: ksg_scalar(a, b, seeds=range(columns), k=K))
        other, other_wall, other_cpu = timed(
            lambda: mutual_info_regression(x, y, n_neighbors=K, random_state=0)
        )
        held.append(Round(wall, cpu, other_wall, other_cpu))
        ours, theirs = np.array([e.value for e in found]), np.asarray(other)
    errors = [float(np.abs(values - truth).mean()) for values in (ours, theirs)]
    return row(f"{columns} columns, one scalar", "scikit-learn", n, held, *errors)


def interpreter() -> Path:
    """Return benchmark-mi's interpreter."""
    found = sorted((FOLDER.parents[1] / ".oracles").glob("benchmark_mi-*/bin/python"))
    if not found:
        sys.exit(
            "benchmark-mi is not installed: INFOPLANE_REQUIRE=oracles pytest tests/oracles/test_benchmark_mi.py"
        )
    return found[-1]


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="write a dated page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = (
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}, benchmark-mi 0.1.3"
    )
    print(f"{versions}, one thread\n\n{HEAD}", flush=True)
    calls = [partial(against_benchmark_mi, interpreter(), n, 64) for n in (1024, 4096)]
    calls += [partial(against_scikit_learn, n, 64) for n in (1024, 4096)]
    rows = []
    for call in calls:
        rows.append(call(rounds=arguments.rounds))
        print(rows[-1].markdown(), flush=True)
    if arguments.json:
        held = {"versions": versions, "rows": [asdict(one) for one in rows]}
        arguments.json.write_text(json.dumps(held, indent=1) + "\n")
    if arguments.write:
        note = (
            f"Medians over {arguments.rounds} alternating rounds; factors are medians of a round's "
            "ratio. Errors in nats against the closed form: of the first tap (64 columns are "
            "beyond KSG, see docs/estimators.md), and means over the columns."
        )
        body = "\n".join([note, "", HEAD, *(one.markdown() for one in rows)])
        print(write("mutual-information-packages", "KSG beside other packages", versions, body))


if __name__ == "__main__":
    main()
