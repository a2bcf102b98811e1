"""The page of the trained estimator: errors per family, coverage, and `heldout_ksg` beside it."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from supervised_mi.datasets import draw
from supervised_mi.families import TRAINED, UNSEEN, Array, Family
from supervised_mi.plan import Plan

from infoplane.estimators import heldout_ksg
from infoplane.estimators.mutual_information.supervised.checkpoint import Checkpoint
from infoplane.estimators.mutual_information.supervised.estimate import supervised_mi

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Table:
    """One row per set: family, rows, wider width, truth, the two values, and the band."""

    family: Array
    n: Array
    width: Array
    truth: Array
    supervised: Array
    heldout: Array
    low: Array
    high: Array

    def where(self, mask: Array) -> Table:
        """Return the rows of a mask."""
        return Table(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def measure(seeds: range, families: Mapping[str, Family], weights: Checkpoint) -> Table:
    """Return what both estimators say about the sets of ``seeds``."""
    columns: list[list[Any]] = [[] for _ in Table.__dataclass_fields__]
    for seed in seeds:
        block = draw(seed, families)
        count, n, dx = block.x.shape
        ours = supervised_mi(block.x, block.y, seeds=[0] * count, checkpoint=weights)
        other = _heldout(block.x, block.y)
        for i in range(count):
            band = ours[i].band or (np.nan, np.nan)
            row = (block.family[i], n, max(dx, block.y.shape[-1]), block.truth[i], ours[i].value,
                   max(other[i], 0.0), *band)  # fmt: skip
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    return Table(*(np.array(column) for column in columns))


def _heldout(x: torch.Tensor, y: torch.Tensor) -> list[float]:
    return [e.value for e in heldout_ksg(x, y, seeds=range(len(x)), permutations=0)]


def page(
    plan: Plan, facts: Mapping[str, Any], weights: Checkpoint, *, constant: float, date: str
) -> str:
    """Return the page as Markdown; ``constant`` is the answer of the poorest estimator."""
    seen = measure(plan.seen, TRAINED, weights)
    unseen = measure(plan.unseen, UNSEEN, weights)
    lines = [
        f"# The trained estimator of mutual information, {date}",
        "",
        "Written by `nice -n 15 python scripts/train_supervised_mi.py`"
        + (" --quick" if plan.quick else "")
        + f". Python {platform.python_version()}, torch {torch.__version__}, numpy "
        f"{np.__version__}, scipy {scipy.__version__}, one thread of a shared {platform.machine()}.",
        "",
        "## Training",
        "",
        *_facts(facts),
        "",
        "Errors are mean absolute ones in nats, of single sets (mean square: of supervised, nats^2). "
        "`heldout_ksg` runs without a null; its values are cut at 0 as well. "
        f"`constant` always answers {constant:.2f}, the median of the training truths. Coverage is the share of "
        "truths within the 5 % to 95 % band, widened by 0.005 nats so that exact zeros at the edge count.",
        "",
        "## Families that training had, on seeds that it did not have",
        "",
        *_rows(seen, constant, seen.family),
        "",
        "By number of rows:",
        "",
        *_rows(seen, constant, _labels(seen.n, (64, 128, 256, 512, 513))),
        "",
        "By the wider side's columns:",
        "",
        *_rows(seen, constant, _labels(seen.width, (1, 2, 5, 9, 17, 33))),
        "",
        "By truth:",
        "",
        *_rows(seen, constant, _truths(seen.truth)),
        "",
        "## Families that training never had",
        "",
        *_rows(unseen, constant, unseen.family),
        "",
        "## Processor time of one pair of 512 rows, one thread",
        "",
        *_times(weights, 1 if plan.quick else 9),
        "",
        "## The forty tasks of `benchmarks/estimators/heldout_ksg.py`",
        "",
        *_tasks(weights, 2 if plan.quick else 5, 3 if plan.quick else None),
        "",
    ]
    return "\n".join(lines)


def _facts(facts: Mapping[str, Any]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]


def _rows(table: Table, constant: float, labels: Array) -> list[str]:
    head = "| | sets | supervised | bias | mean square | heldout_ksg | constant | coverage | band width |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    groups = [(str(name), table.where(labels == name)) for name in sorted(set(labels.tolist()))]
    for name, part in [*groups, ("**all**", table)]:
        error = part.supervised - part.truth
        inside = (part.low - 0.005 <= part.truth) & (part.truth <= part.high + 0.005)
        numbers = [
            np.abs(error).mean(),
            error.mean(),
            (error**2).mean(),
            np.abs(part.heldout - part.truth).mean(),
            np.abs(constant - part.truth).mean(),
        ]
        cells = " | ".join(f"{number:.3f}" for number in numbers)
        width = (part.high - part.low).mean()
        lines.append(
            f"| {name} | {len(error)} | {cells} | {100 * inside.mean():.0f} % | {width:.2f} |"
        )
    return lines


def _times(weights: Checkpoint, repeats: int) -> list[str]:
    lines = ["| columns a side | supervised | heldout_ksg |", "|---|---|---|"]
    for d in (1, 8, 32):
        rng = np.random.default_rng(d)
        x, y = (torch.from_numpy(rng.normal(size=(1, 512, d))) for _ in range(2))
        calls: tuple[Callable[[], object], ...] = (
            lambda x=x, y=y: supervised_mi(x, y, seeds=[0], checkpoint=weights),
            lambda x=x, y=y: _heldout(x, y),
        )
        cells = " | ".join(f"{1e3 * _processor_seconds(call, repeats):.0f} ms" for call in calls)
        lines.append(f"| {d} | {cells} |")
    return lines


def _processor_seconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return float(np.median(times))


def _labels(values: Array, edges: Sequence[int]) -> Array:
    names = [f"{low:3d} to {high - 1}" for low, high in pairwise(edges)]
    return np.array(names)[np.digitize(values, edges[1:-1])]


def _truths(truth: Array) -> Array:
    names = np.array(["0 exactly", "0 to 0.25", "0.25 to 1", "1 to 2", "2 to 4"])
    return np.where(truth == 0, names[0], names[1:][np.digitize(truth, (0.25, 1.0, 2.0))])


def _tasks(weights: Checkpoint, seeds: int, limit: int | None) -> list[str]:
    """Return the benchmark's tasks that are not too wide, n = 1024, as a table."""
    lines = [
        "| task (n = 1024) | truth | supervised | band | heldout_ksg |",
        "|---|---|---|---|---|",
    ]
    errors = []
    for name, truth, x, y in _benchmark(seeds, limit):
        ours = supervised_mi(x, y, seeds=range(seeds), checkpoint=weights)
        other = _heldout(x, y)
        value = float(np.mean([e.value for e in ours]))
        low, high = np.mean([e.band or (np.nan, np.nan) for e in ours], 0)
        errors.append((abs(value - truth), abs(float(np.mean(other)) - truth)))
        lines.append(
            f"| {name} | {truth:.3f} | {value:.3f} | {low:.2f} to {high:.2f} | {np.mean(other):.3f} |"
        )
    ours_error, other_error = np.mean(errors, 0)
    return [
        f"Mean over {seeds} seeds; tasks wider than 32 columns are left out. Images of single columns have the ranks "
        "of their originals. Mean absolute error of the seed mean over "
        f"{len(errors)} tasks: supervised {ours_error:.3f}, heldout_ksg {other_error:.3f} nats.",
        "",
        *lines,
    ]


def _benchmark(
    seeds: int, limit: int | None
) -> Iterator[tuple[str, float, torch.Tensor, torch.Tensor]]:
    path = ROOT / "benchmarks" / "estimators" / "heldout_ksg.py"
    spec = importlib.util.spec_from_file_location("heldout_ksg_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, (truth, make) in list(module.families().items())[:limit]:
        x, y = module.stacked(make, 1024, seeds, "cpu")
        if max(x.shape[-1], y.shape[-1]) <= 32:
            yield name, truth, x, y
