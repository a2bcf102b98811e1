"""The null pass: how likely a response is without its prompt, by an extra forward that training does not notice."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from infoplane.agent.outputs import find_logits
from infoplane.agent.undisturbed import Batch, call, undisturbed

IGNORED: Final = -100


def null_log_probs(root: nn.Module, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    """Return log p of every label in nats, float32 (B, S); 0 where there is none.

    Args:
        root: the model.
        batch: inputs without the context: for a rollout the response alone, after a token that may begin a text.
        labels: int (B, S), the token at the same place of the inputs, predicted from what stands before it; -100 for
            places that do not count. The first place of a sequence never does.

    Raises:
        ValueError: the model returns no logits (B, S, V).

    Cost: a forward pass, and the log-softmax of one sequence after the other. A collective under ZeRO-3 and tensor
    parallelism. Source: Ethayarajh, Choi and Swayamdipta, "Understanding dataset difficulty with V-usable
    information", ICML 2022.
    """
    size, length = labels.shape
    with undisturbed(root):
        logits = find_logits(call(root, batch), size * length)
        if logits is None:
            raise ValueError(f"no logits of {size} x {length} rows in the model's output")
        table = logits.reshape(size, length, -1)
        found = torch.zeros(size, length, device=table.device)
        for row in range(size):
            found[row, 1:] = _log_probs(table[row, :-1], labels[row, 1:].to(table.device))
    return found


def _log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return log p (S - 1,) of `labels` under `logits` (S - 1, V)."""
    is_label = labels != IGNORED
    # A clamp, because a bad index is an error on the device that no `except` can undo.
    chosen = labels.clamp(0, logits.shape[-1] - 1).unsqueeze(1)
    log_p = torch.log_softmax(logits.float(), dim=1).gather(1, chosen).squeeze(1)
    return log_p.masked_fill(~is_label, 0.0)
