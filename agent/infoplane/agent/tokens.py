"""The `tokens` unit: what is known about the target of every sampled row.

    position   int32   place inside its sequence
    target     int32   id of the target (mode ids), or 6 bits of its keyed hash (mode buckets); absent in mode none
    valid      uint8   1 = there is a target and it is not ignore_index (-100)
    log_prob   float32 log-probability of the target in nats; 0 where not valid
    entropy    float32 entropy of the softmax in nats

Only the k sampled rows of the logits are read, in float32. The bucket of id t is mix(chain(key
seed, 0x746f6b656e) ^ t) >> 58: who knows the seed can list the ids of a bucket, about V / 64 of
them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.batch import Batch
from infoplane.agent.hashing import chain, mix_array
from infoplane.agent.layout import Layout
from infoplane.agent.slots import Slot

IGNORE_INDEX: Final = -100
BUCKET_BITS: Final = 6
_DOMAIN: Final = 0x746F6B656E  # "token": another hash than that of the row keys
HEAD_NAMES: Final = r"lm_head|embed_out|unembed|head|output|output_projection"


def add_regions(layout: Layout, rows: int) -> None:
    """Reserve the columns for `rows` sampled rows."""
    layout.add("tokens:position", torch.int64, rows)
    layout.add("tokens:target", torch.int64, rows)
    layout.add("tokens:valid", torch.uint8, rows)
    layout.add("tokens:log_prob", torch.float32, rows)
    layout.add("tokens:entropy", torch.float32, rows)


def write_targets(batch: Batch, index: torch.Tensor, slot: Slot) -> None:
    """Write position, target and valid of the rows at flat positions `index`, int64 (k,)."""
    k = index.shape[0]
    position = index % batch.length
    target = batch.targets.reshape(-1)
    if batch.is_shifted:
        has_next = position < batch.length - 1
        chosen = target[index + has_next]
        is_valid = has_next & (chosen != IGNORE_INDEX)
    else:
        chosen = target[index]
        is_valid = chosen != IGNORE_INDEX
    slot.device["tokens:position"][:k].copy_(position)
    slot.device["tokens:target"][:k].copy_(chosen * is_valid)
    slot.device["tokens:valid"][:k].copy_(is_valid)
    slot.capture.columns += ["position", "target", "valid"]


def write_likelihood(logits: torch.Tensor, index: torch.Tensor, slot: Slot) -> None:
    """Write log_prob and entropy; `logits` is (..., V) with as many rows as the micro-batch has positions."""
    k = index.shape[0]
    vocabulary = logits.shape[-1]
    rows = logits.reshape(-1, vocabulary).index_select(0, index).float()
    log_p = torch.log_softmax(rows, dim=1)
    # A clamp, because a bad index is an error on the device that no `except` can undo.
    target = slot.device["tokens:target"][:k].clamp(0, vocabulary - 1)
    log_prob = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
    is_valid = slot.device["tokens:valid"][:k]
    slot.device["tokens:log_prob"][:k].copy_(log_prob * is_valid)
    # -inf logits (masked vocabulary) have p = 0 and contribute 0, not NaN.
    torch.sum(torch.special.entr(log_p.exp()), dim=1, out=slot.device["tokens:entropy"][:k])
    slot.capture.columns += ["log_prob", "entropy"]
    slot.capture.vocabulary = int(vocabulary)


def buckets(ids: npt.NDArray[Any], key_seed: int) -> npt.NDArray[np.int32]:
    """Return the bucket 0 .. 63 of every id; same shape."""
    key = np.uint64(chain(key_seed, _DOMAIN))
    hashed = mix_array(ids.astype(np.uint64) ^ key) >> np.uint64(64 - BUCKET_BITS)
    return hashed.astype(np.int32)


def columns(slot: Slot, mode: str, key_seed: int) -> dict[str, npt.NDArray[Any]]:
    """Return the columns (k,) that `mode` lets out, from the host copy of `slot`."""
    k = slot.capture.k
    found = {name: slot.host[f"tokens:{name}"][:k] for name in slot.capture.columns}
    if "position" in found:
        found["position"] = found["position"].astype(np.int32)
        target = found.pop("target")
        if mode == "ids":
            found["target"] = target.astype(np.int32)
        elif mode == "buckets":
            found["target"] = buckets(target, key_seed)
    return found
