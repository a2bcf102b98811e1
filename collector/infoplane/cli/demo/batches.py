"""Batches of the demo: every rank reads its own share of the text, in an order that the seed fixes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shard:
    """The share of one rank.

    Attributes:
        text: all bytes of the text, the same on every rank.
        rank: this rank.
        world: number of ranks.
        seed: fixes which positions are read in which step.
        batch: sequences a step.
        length: positions of a sequence.
        shuffle_labels: permute the targets within a batch, so that nothing can be learned from the input.
    """

    text: NDArray[np.uint8]
    rank: int
    world: int
    seed: int
    batch: int
    length: int
    shuffle_labels: bool = False

    def at(self, step: int, *, random_bytes: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and next-byte targets `(batch, length)` of `step`, a function of seed, rank and step.

        Args:
            step: the training step.
            random_bytes: the shard is damaged: uniform random bytes instead of text.
        """
        random = np.random.default_rng((self.seed, self.rank, step))
        share = len(self.text) // self.world
        starts = self.rank * share + random.integers(0, share - self.length - 1, self.batch)
        index = starts[:, None] + np.arange(self.length + 1)
        chunk = self.text[index].astype(np.int64)
        if random_bytes:
            chunk = random.integers(0, 256, chunk.shape)
        tokens, targets = chunk[:, :-1], chunk[:, 1:]
        if self.shuffle_labels:
            targets = random.permutation(targets.ravel()).reshape(targets.shape)
        return torch.from_numpy(tokens.copy()), torch.from_numpy(targets.copy())
