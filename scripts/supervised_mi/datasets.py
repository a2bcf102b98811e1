"""Sets of the report and of the training, each from its own range of seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from supervised_mi.families import Array, Family, mixed

from infoplane.estimators.mutual_information.supervised.features import (
    MAX_ROWS,
    MAX_WIDTH,
    MIN_ROWS,
    Features,
    features,
)
from infoplane.estimators.mutual_information.supervised.order import content_order

BLOCK = 8
"""Sets of one seed; they share n and widths, so that they are computed together."""
MAX_NATS = 4.0
ZERO_SHARE = 0.2


@dataclass(frozen=True)
class Block:
    """``BLOCK`` sets of equal shape: ``x (b, n, dx)``, ``y (b, n, dy)``, truth and family of each."""

    x: torch.Tensor
    y: torch.Tensor
    truth: list[float]
    family: list[str]


def draw(seed: int, families: Mapping[str, Family]) -> Block:
    """Return the sets of one seed."""
    rng = np.random.default_rng([20261125, seed])
    n = MAX_ROWS if rng.random() < 0.3 else round(2 ** rng.uniform(math.log2(MIN_ROWS), 9))
    dx, dy = (round(2 ** rng.uniform(0, math.log2(MAX_WIDTH))) for _ in range(2))
    if rng.random() < 0.5:
        dy = dx
    names = list(families)
    parts = []
    for _ in range(BLOCK):
        name = names[int(rng.integers(len(names)))]
        parts.append((*_one(rng, families[name], name, n, dx, dy), name))
    xs, ys, truth, family = zip(*parts, strict=True)
    x, y = (torch.from_numpy(np.stack(side)) for side in (xs, ys))
    return Block(x, y, list(truth), list(family))


def _one(
    rng: np.random.Generator, family: Family, name: str, n: int, dx: int, dy: int
) -> tuple[Array, Array, float]:
    nats = MAX_NATS * float(rng.random()) ** 1.5
    x, y, truth = family(rng, n, dx, dy, nats)
    if rng.random() < ZERO_SHARE:
        # y of another draw: the same marginals, and exactly nothing shared.
        y, truth = family(rng, n, dx, dy, nats)[1], 0.0
    return _image(rng, x, name), _image(rng, y, name), truth


def _image(rng: np.random.Generator, x: Array, name: str) -> Array:
    """Return a one-to-one image of a side, or the side itself.

    Increasing maps of single columns alone change no rank, so that they come with a rotation.
    """
    kind = rng.random()
    if kind < 0.6:
        return x
    half = np.maximum(np.subtract(*np.percentile(x, [75, 25], 0)) / 1.349, 1e-9)
    z = (x - np.median(x, 0)) / half
    if kind < 0.75:
        return exchanged(rng, z)
    if x.shape[1] == 1:
        return x
    if kind < 0.87 and name.startswith("normal"):
        return spiral(z / z.std(0), *rng.choice(x.shape[1], 2, replace=False))
    return mixed(rng, COLUMN_MAPS[int(rng.integers(len(COLUMN_MAPS)))](z))


def exchanged(rng: np.random.Generator, x: Array) -> Array:
    """Cut the range of some columns in equal cells, and reorder and reverse the cells."""
    out = x.copy()
    columns = rng.random(x.shape[1]) < 0.5
    columns[int(rng.integers(x.shape[1]))] = True
    for j in np.flatnonzero(columns):
        cells = int(rng.integers(2, 6))
        place, reverse = rng.permutation(cells), rng.random(cells) < 0.5
        scaled = _squashed(x[:, j]) * cells
        cell = np.minimum(scaled.astype(int), cells - 1)
        rest = scaled - cell
        out[:, j] = place[cell] + np.where(reverse[cell], 1.0 - rest, rest)
    return out


def spiral(x: Array, i: int, j: int) -> Array:
    """Rotate columns i and j by a third of the squared norm."""
    angle = (x**2).sum(1) / 3.0
    out = x.copy()
    out[:, i] = np.cos(angle) * x[:, i] - np.sin(angle) * x[:, j]
    out[:, j] = np.sin(angle) * x[:, i] + np.cos(angle) * x[:, j]
    return out


def _half_cube(x: Array) -> Array:
    return np.sign(x) * np.abs(x) ** 1.5


def _wiggly(x: Array) -> Array:
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1.0) + 0.03 * np.sin(3.3 * x - 2.5)


def _squashed(x: Array) -> Array:
    """Return numbers between 0 and 1. Unlike a cdf it keeps far values apart in float64."""
    return 0.5 + 0.5 * x / (1.0 + np.abs(x))


COLUMN_MAPS = (_half_cube, np.arcsinh, _wiggly, _squashed)


@dataclass(frozen=True)
class Split:
    """Features, truth ``(s,)`` and family of the sets of a range of seeds; rows are padded."""

    features: Features
    counts: torch.Tensor
    truth: torch.Tensor
    family: list[str]


def prepare(seed: int, families: Mapping[str, Family]) -> dict[str, np.ndarray]:
    """Return the features of the sets of one seed as arrays; rows in float16 to save disk."""
    block = draw(seed, families)
    order = content_order(block.x, block.y, seeds=[0] * BLOCK).unsqueeze(-1)
    x, y = (torch.take_along_dim(z, order, 1) for z in (block.x, block.y))
    seen = features(x, y)
    return {
        "statistics": seen.statistics.numpy(),
        "directions": seen.directions.numpy(),
        "rows": seen.rows.numpy().astype(np.float16),
        "truth": np.array(block.truth, dtype=np.float32),
        "family": np.array(block.family),
    }


def load(folder: Path, seeds: range, families: Mapping[str, Family]) -> Split:
    """Return the split of ``seeds``; what is not in ``folder`` is computed and saved there."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [_block(folder / f"{seed}.npz", seed, families) for seed in seeds]
    counts = torch.tensor([b["rows"].shape[1] for b in blocks for _ in range(BLOCK)])
    rows = torch.zeros(len(counts), MAX_ROWS, blocks[0]["rows"].shape[-1], dtype=torch.float16)
    for i, b in enumerate(blocks):
        rows[i * BLOCK : (i + 1) * BLOCK, : b["rows"].shape[1]] = torch.from_numpy(b["rows"])
    statistics, directions, truth = (
        torch.from_numpy(np.concatenate([b[name] for b in blocks]))
        for name in ("statistics", "directions", "truth")
    )
    family = [str(name) for b in blocks for name in b["family"]]
    return Split(Features(statistics, directions, rows), counts, truth, family)


def _block(path: Path, seed: int, families: Mapping[str, Family]) -> dict[str, np.ndarray]:
    if not path.exists():
        held = path.with_suffix(".part.npz")
        np.savez(held, **prepare(seed, families))
        held.replace(path)
    with np.load(path) as arrays:
        return dict(arrays)
