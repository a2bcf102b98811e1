"""What a model predicts at its anchors: the likeliest tokens and the next token's log-probability, at every kept place.

    anchor/logits   top_log_probs float32 (k, 32), top_ids int32 (k, 32), next_log_prob float32 (k,); nats

Rows are in the order of the unit's row keys. Where a vocabulary has fewer than 32 tokens the rest is -inf with id -1;
`next_log_prob` is 0 at the last place of a sequence, and absent where the batch holds no tokens. Softmax is taken of 32
places at a time: scratch is 128 V bytes. Not captured under tensor parallelism, which may cut the vocabulary up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from infoplane.agent.layout import Layout
from infoplane.agent.outputs import find_logits
from infoplane.agent.probes.summaries import largest
from infoplane.agent.slots import Slot
from infoplane.wire import infoplane_pb2 as pb

TOP: Final = 32
SITE: Final = "anchor/logits"
_CHUNK: Final = 32


def reserve(layout: Layout, rows: int) -> None:
    """Reserve 65 KB for 256 places."""
    layout.add("logits:top", torch.float32, rows, TOP)
    layout.add("logits:ids", torch.int32, rows, TOP)
    layout.add("logits:next", torch.float32, rows)


def next_tokens(batch: Any) -> torch.Tensor | None:
    """Return the token after every place, int64 (B S,), -1 after the last; None if the batch holds no tokens.

    Tokens are `input_ids` of a mapping, else the first tensor of whole numbers (B, S).
    """
    if isinstance(batch, Mapping):
        given = [batch["input_ids"]] if "input_ids" in batch else list(batch.values())
    else:
        given = list(batch) if isinstance(batch, Sequence) else [batch]
    found = (
        one
        for one in given
        if isinstance(one, torch.Tensor)
        and one.ndim == 2
        and one.dtype in (torch.int32, torch.int64)
    )
    ids = next(found, None)
    if ids is None:
        return None
    after = torch.full_like(ids, -1, dtype=torch.int64)
    after[:, :-1] = ids[:, 1:]
    return after.reshape(-1)


def write_logits(
    slot: Slot, output: Any, index: torch.Tensor, num_rows: int, following: torch.Tensor | None
) -> None:
    """Write what `output` says about the places `index` (k,) into the slot; nothing if it holds no logits."""
    logits = find_logits(output, num_rows)
    if logits is None:
        return
    table = logits.detach().reshape(num_rows, -1)
    size = min(TOP, table.shape[1])
    top, ids, after = (slot.device[f"logits:{name}"] for name in ("top", "ids", "next"))
    top.fill_(-torch.inf)
    ids.fill_(-1)
    for start in range(0, len(index), _CHUNK):
        places = index[start : start + _CHUNK]
        rows = slice(start, start + len(places))
        log_p = torch.log_softmax(table.index_select(0, places).float(), dim=1)
        largest_p, chosen = torch.topk(log_p, size, dim=1)
        top[rows, :size].copy_(largest_p)
        ids[rows, :size].copy_(chosen)
        if following is not None:
            token = following.to(places.device).index_select(0, places).unsqueeze(1)
            found = log_p.gather(1, token.clamp(min=0)).masked_fill(token < 0, 0.0)
            after[rows].copy_(found.squeeze(1))
    slot.capture.notes["logits"] = following is not None


def tap_of(slot: Slot, rows: int) -> pb.TapSketch | None:
    """Return the tap of a pass that found logits."""
    if "logits" not in slot.capture.notes:
        return None
    summaries = [
        largest("top_log_probs", slot.host["logits:top"][:rows]),
        largest("top_ids", slot.host["logits:ids"][:rows]),
    ]
    if slot.capture.notes["logits"]:
        summaries.append(largest("next_log_prob", slot.host["logits:next"][:rows]))
    return pb.TapSketch(tap=SITE, summaries=summaries)
