"""Where responses come from: prompts cut from the text, and groups of responses sampled for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from infoplane.cli.demo.rlhf.models import PROMPT, Policy
from infoplane.cli.demo.rlhf.sampling import sample

GROUP: Final = 5  # responses a prompt; odd, so that cyclic raters can be perfectly cyclic


@dataclass(frozen=True, slots=True)
class Groups:
    """Prompts with GROUP sampled responses each; row `g * GROUP + k` is response k to prompt g.

    Attributes:
        tokens: `(n, PROMPT + RESPONSE)`, int64.
        prompts: the same as bytes, one a row.
        responses: likewise.
    """

    tokens: torch.Tensor
    prompts: list[bytes]
    responses: list[bytes]


@dataclass(frozen=True, slots=True)
class Prompter:
    """Cuts prompts before beginnings of words; a function of seed, rank and step."""

    text: NDArray[np.uint8]
    rank: int
    seed: int
    _starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Find the beginnings of words."""
        letter = np.isin(self.text, np.frombuffer(_LETTERS, np.uint8))
        starts = np.flatnonzero(letter[1:] & ~letter[:-1]) + 1
        object.__setattr__(self, "_starts", starts[starts >= PROMPT])

    def sample(self, policy: Policy, step: int, prompts: int) -> Groups:
        """Return what `policy` answers to `prompts` prompts in `step`."""
        random = np.random.default_rng((self.seed, self.rank, step))
        ends = random.choice(self._starts, prompts)
        cut = self.text[ends[:, None] - PROMPT + np.arange(PROMPT)].repeat(GROUP, axis=0)
        generator = torch.Generator().manual_seed(int(random.integers(1 << 62)))
        policy.eval()
        tokens = sample(policy, torch.from_numpy(cut.astype(np.int64)), generator)
        policy.train()
        rows = [row.tobytes() for row in tokens.numpy().astype(np.uint8)]
        return Groups(tokens, [row[:PROMPT] for row in rows], [row[PROMPT:] for row in rows])


_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
