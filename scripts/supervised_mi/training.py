"""Training of the network on prepared features, on one thread."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from supervised_mi.datasets import Split
from torch import Tensor

from infoplane.estimators.mutual_information.supervised.features import Features
from infoplane.estimators.mutual_information.supervised.network import (
    SetToInformation,
    Sizes,
    pinball,
)

BATCH = 128
POOL = 16
"""Batches that are cut from one pool, sorted by rows, so that little padding is computed."""
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 2e-2
KEPT = 0.995
"""Share of the averaged weights that a step keeps, in the long run."""


@dataclass(frozen=True)
class Trained:
    """The network with averaged weights, and its validation loss before, during and after."""

    network: SetToInformation
    losses: list[float]
    seconds: float
    processor_seconds: float


def train(
    data: Split, validation: Split, *, epochs: int, seed: int, say: Callable[[str], None] = print
) -> Trained:
    """Return a network fitted to ``data`` by AdamW on the pinball loss."""
    started, busy = time.perf_counter(), time.process_time()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SetToInformation(Sizes(statistics=data.features.statistics.shape[-1]))
    standardise(network, data)
    averaged = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(data.truth) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    losses = [loss(averaged, validation)]
    for epoch in range(epochs):
        for chosen in batches(data.counts, generator):
            seen, present, truth = part(data, chosen)
            value = pinball(network(seen, present), truth)
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            follow(averaged, network, schedule.last_epoch)
        losses.append(loss(averaged, validation))
        say(f"epoch {epoch + 1}: validation loss {losses[-1]:.4f}, "
            f"{time.perf_counter() - started:.0f} s")  # fmt: skip
    wall, processor = time.perf_counter() - started, time.process_time() - busy
    return Trained(averaged, losses, wall, processor)


def follow(averaged: SetToInformation, network: SetToInformation, step: int) -> None:
    """Move the averaged weights towards those of the network, faster in the beginning."""
    kept = min(KEPT, step / (step + 9.0))
    for old, new in zip(averaged.parameters(), network.parameters(), strict=True):
        old.data.lerp_(new.data, 1.0 - kept)


def standardise(network: SetToInformation, data: Split) -> None:
    """Give the network the mean and spread of the training sets' statistics."""
    network.mean.copy_(data.features.statistics.mean(0))
    network.spread.copy_(data.features.statistics.std(0).clamp(min=1e-3))


def batches(counts: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield indices of batches: a random order, in which neighbours have similar rows."""
    order = torch.randperm(len(counts), generator=generator)
    pools = order.split(BATCH * POOL)
    cut = [b for pool in pools for b in pool[counts[pool].argsort()].split(BATCH)]
    for i in torch.randperm(len(cut), generator=generator).tolist():
        yield cut[i]


def part(data: Split, chosen: Tensor) -> tuple[Features, Tensor, Tensor]:
    """Return the features, which rows are there, and the truth of some sets."""
    counts = data.counts[chosen]
    longest = int(counts.max())
    seen = Features(
        data.features.statistics[chosen],
        data.features.directions[chosen],
        data.features.rows[chosen, :longest].float(),
    )
    return seen, torch.arange(longest) < counts.unsqueeze(-1), data.truth[chosen]


@torch.no_grad()
def predict(network: SetToInformation, data: Split) -> Tensor:
    """Return quantiles in nats, not below 0, of every set."""
    parts = [
        network(*part(data, chosen)[:2]) for chosen in torch.arange(len(data.truth)).split(BATCH)
    ]
    return torch.cat(parts).clamp(min=0.0)


def loss(network: SetToInformation, data: Split) -> float:
    """Return the pinball loss in nats."""
    return float(pinball(predict(network, data), data.truth))
