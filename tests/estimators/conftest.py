"""Data of known information, shared by the estimators' tests."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor


def independent(t: int, n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return independent standard normal pairs, each ``(t, n, d)``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (t, n, d)
    return (
        torch.randn(shape, generator=generator, dtype=torch.float64),
        torch.randn(shape, generator=generator, dtype=torch.float64),
    )


def gaussian_pairs(
    t: int, n: int, d: int, seed: int, *, nats: float, directions: int
) -> tuple[Tensor, Tensor]:
    """Return normal pairs that share ``nats``, spread evenly over the first ``directions``."""
    x, noise = independent(t, n, d, seed)
    rho = math.sqrt(1.0 - math.exp(-2.0 * nats / directions))
    y = noise.clone()
    y[..., :directions] = rho * x[..., :directions] + math.sqrt(1 - rho**2) * y[..., :directions]
    return x, y


def rotated(x: Tensor, seed: int) -> Tensor:
    """Return every item of ``x (t, n, d)`` under a random rotation of its own."""
    generator = torch.Generator().manual_seed(seed)
    d = x.shape[-1]
    q, _ = torch.linalg.qr(torch.randn(x.shape[0], d, d, generator=generator, dtype=x.dtype))
    return x @ q


def noisy_channel(
    t: int, n: int, seed: int, *, error: float, classes: int = 10, d: int = 64, noise: float = 0.05
) -> SimpleNamespace:
    """Return x, y ``(t, n, d)`` and labels ``(t, n)``: clusters through a symmetric channel."""
    generator = np.random.default_rng(seed)
    sent = generator.integers(0, classes, (t, n))
    other = (sent + generator.integers(1, classes, (t, n))) % classes
    labels = np.where(generator.random((t, n)) < error, other, sent)
    item = np.arange(t)[:, None]
    x = generator.normal(size=(t, classes, d))[item, sent]
    y = generator.normal(size=(t, classes, d))[item, labels]
    x, y = (z + noise * generator.normal(size=z.shape) for z in (x, y))
    truth = math.log(classes)
    if error > 0:
        truth += error * math.log(error / (classes - 1))
    if error < 1:
        truth += (1 - error) * math.log(1 - error)
    return SimpleNamespace(
        x=torch.from_numpy(x), y=torch.from_numpy(y), labels=torch.from_numpy(labels), truth=truth
    )


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data() -> SimpleNamespace:
    """Return the generators above by name."""
    return SimpleNamespace(
        independent=independent,
        gaussian_pairs=gaussian_pairs,
        rotated=rotated,
        noisy_channel=noisy_channel,
    )
