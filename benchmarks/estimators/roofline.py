"""How near diffusion entropy's steps come to this machine's matrix product, on one thread.

Run: python benchmarks/estimators/roofline.py [--json OUT] [--write]

Operations counted: a Gram matrix 2 n^2 (d + 2), eigenvalues 4/3 n^3, quadrature 2 n^2 for each
product with one vector. Peaks are square float64 and float32 products of n = 2048.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch  # noqa: E402
from against_page import write  # noqa: E402

from infoplane.estimators.geometry.diffusion_kernel import (  # noqa: E402
    gram,
    normalise,
    spectral_entropy,
)
from infoplane.estimators.geometry.lanczos import (  # noqa: E402
    DEFLATED,
    DEFLATED_STEPS,
    POWER_ITERATIONS,
    PROBES,
    STEPS,
    entropy_by_quadrature,
)

SIZES = (512, 1024, 2048, 4096)
PRODUCTS = DEFLATED * (POWER_ITERATIONS + 1 + DEFLATED_STEPS) + PROBES * STEPS


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """Return the median processor time of a call, after one that is not counted."""
    call()
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return median(spent)


def peak(dtype: torch.dtype, rounds: int) -> float:
    """Return operations per second of a square product."""
    a = torch.randn(2048, 2048, dtype=dtype)
    return 2.0 * 2048**3 / seconds(lambda: a @ a, rounds)


def steps(n: int, d: int, rounds: int) -> list[dict[str, Any]]:
    """Return operations and seconds of every step for one item of ``n`` rows."""
    x = torch.randn(1, n, d, generator=torch.Generator().manual_seed(0))
    s = torch.tensor([(2.0 * d) ** 0.5], dtype=torch.float64)
    operator = normalise(gram(x, s, torch.float64), "walk")
    single = operator[0].to(torch.float32)
    rows = x[0].double()
    calls: dict[str, tuple[Callable[[], Any], float, str]] = {
        "distances alone": (lambda: rows @ rows.mT, 2.0 * n * n * d, "float64"),
        "Gram matrix": (lambda: gram(x, s, torch.float64), 2.0 * n * n * (d + 2), "float64"),
        "eigenvalues": (lambda: spectral_entropy(operator, 1), 4.0 / 3.0 * n**3, "float64"),
        "quadrature": (lambda: entropy_by_quadrature(single, 0), 2.0 * n * n * PRODUCTS, "float32"),
    }
    return [
        {"step": name, "n": n, "seconds": seconds(call, rounds), "operations": count, "type": kind}
        for name, (call, count, kind) in calls.items()
    ]


def head(d: int) -> str:
    """Return the table's first lines."""
    return f"| step, d = {d} | n | ms | GFLOP/s | of the product |\n|---|---|---|---|---|"


def line(one: dict[str, Any]) -> str:
    """Return one step's line."""
    return (
        f"| {one['step']} | {one['n']} | {1e3 * one['seconds']:.1f} | {one['rate'] / 1e9:.1f} "
        f"| {one['of_peak']:.0%} |"
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="write a dated page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peaks = {
        "float64": peak(torch.float64, arguments.rounds),
        "float32": peak(torch.float32, arguments.rounds),
    }
    rates = "\n".join(f"- {kind} product: {rate / 1e9:.1f} GFLOP/s" for kind, rate in peaks.items())
    print(f"{rates}\n\n{head(arguments.d)}", flush=True)
    records = []
    for n in SIZES:
        for one in steps(n, arguments.d, arguments.rounds if n < 4096 else 2):
            rate = one["operations"] / one["seconds"]
            records.append(one | {"rate": rate, "of_peak": rate / peaks[one["type"]]})
            print(line(records[-1]), flush=True)
    if arguments.json:
        found = {"peaks": peaks, "steps": records}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.write:
        versions = f"python {platform.python_version()}, torch {torch.__version__}"
        body = "\n".join(
            [f"Peaks, square products of 2048 rows:\n\n{rates}", "", head(arguments.d)]
        )
        body += "\n" + "\n".join(line(one) for one in records)
        print(write("roofline", "Diffusion entropy beside the matrix product", versions, body))


if __name__ == "__main__":
    main()
