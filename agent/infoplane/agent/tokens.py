"""The `tokens` unit: what is known about the target of every sampled row.

    position     int32   place inside its sequence
    target       int32   id of the target (mode ids), or 6 bits of its keyed hash (mode buckets); absent in mode none
    valid        uint8   1 = there is a target and it is not ignore_index (-100)
    log_prob     float32 log-probability of the target in nats; 0 where not valid
    entropy      float32 entropy of the softmax in nats
    varentropy   float32 variance of the log-probability under the softmax in nats^2
    rank         int32   number of logits that are strictly larger than the target's; 0 where not valid

Only the k sampled rows of the logits are read, in float32 and in chunks of the vocabulary; no softmax is kept. The
bucket of id t is mix(chain(key seed, 0x746f6b656e) ^ t) >> 58: who knows the seed can list the ids of a bucket, about
V / 64 of them.

Where every rank of a tensor-parallel group has columns of its own of the logits, each sends, for those columns,

    lse_maximum  float32 m, the largest logit
    lse_sum, lse_dot, lse_square  float64  sum (s-m)^j e^(s-m) for j = 0, 1, 2
    target_logit float32 logit of the target if it is among the columns, else 0

which become log_prob, entropy and varentropy where all parts meet. There is no rank then: only one of them knows the
target's logit, and asking it would take a collective.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from infoplane.agent.batch import Batch
from infoplane.agent.hashing import chain, mix_array
from infoplane.agent.identity import Coordinates
from infoplane.agent.layout import Layout
from infoplane.agent.slots import Slot
from infoplane.agent.softmax_sums import (
    SoftmaxSums,
    entropy_of,
    log_total_of,
    merge_sums,
    sums_of,
    varentropy_of,
)
from infoplane.agent.taps import is_column_parallel

IGNORE_INDEX: Final = -100
BUCKET_BITS: Final = 6
_DOMAIN: Final = 0x746F6B656E  # "token": another hash than that of the row keys
# Columns of the logits that are looked at in one go: bounds the scratch, whatever the vocabulary.
_CHUNK: Final = 1 << 14
_SUMS: Final = ("lse_sum", "lse_dot", "lse_square")
HEAD_NAMES: Final = r"lm_head|embed_out|unembed|head|output|output_projection"


def add_regions(layout: Layout, rows: int) -> None:
    """Reserve the columns for `rows` sampled rows."""
    layout.add("tokens:position", torch.int64, rows)
    layout.add("tokens:target", torch.int64, rows)
    layout.add("tokens:valid", torch.uint8, rows)
    layout.add("tokens:log_prob", torch.float32, rows)
    layout.add("tokens:entropy", torch.float32, rows)
    layout.add("tokens:varentropy", torch.float32, rows)
    layout.add("tokens:rank", torch.int32, rows)
    layout.add("tokens:lse_maximum", torch.float32, rows)
    for name in _SUMS:
        layout.add(f"tokens:{name}", torch.float64, rows)
    layout.add("tokens:target_logit", torch.float32, rows)


@dataclass(frozen=True, slots=True)
class VocabularyShard:
    """The columns of the logits that this rank has.

    Attributes:
        first: id of the first.
        width: number of them.
        vocabulary: number of columns on all ranks together.
    """

    first: int
    width: int
    vocabulary: int


def vocabulary_shard(head: nn.Module | None, at: Coordinates) -> VocabularyShard | None:
    """Return this rank's columns if `head` leaves the logits cut up over the tensor-parallel group, else None.

    DeepSpeed's VocabParallelLinear and LinearLayer, and Megatron's ColumnParallelLinear, unless they gather.
    """
    if head is None or at.tp_size == 1 or not is_column_parallel(head):
        return None
    if getattr(head, "gather_output", False):
        return None
    sizes = getattr(head, "_partition_sizes", None)
    if not sizes:
        whole = int(getattr(head, "output_size", 0))
        sizes = [whole // at.tp_size] * at.tp_size
    if sum(sizes) == 0:
        return None
    return VocabularyShard(sum(sizes[: at.tp]), sizes[at.tp], sum(sizes))


def write_targets(batch: Batch, index: torch.Tensor, slot: Slot, first: int = 0) -> None:
    """Write position, target and valid of the rows at flat positions `index`, int64 (k,).

    `first` is the place in its sequence of the first token that this rank has.
    """
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
    slot.device["tokens:position"][:k].copy_(position + first)
    slot.device["tokens:target"][:k].copy_(chosen * is_valid)
    slot.device["tokens:valid"][:k].copy_(is_valid)
    slot.capture.columns += ["position", "target", "valid"]


def write_likelihood(
    logits: torch.Tensor, index: torch.Tensor, slot: Slot, shard: VocabularyShard | None = None
) -> None:
    """Write what the logits say about the rows at flat positions `index`, int64 (k,).

    Args:
        logits: (..., V) with as many rows as the micro-batch has positions; V the shard's width where there is one.
        index: of the sampled rows.
        slot: has the targets already.
        shard: this rank's columns, None for all.

    Raises:
        ValueError: the logits are not as wide as the shard.

    Cost: the k rows are read twice; scratch of three k x 16384 float arrays, at most 50 MB.
    """
    width = logits.shape[-1]
    if shard is not None and width != shard.width:
        raise ValueError(f"{width} logits where this rank has {shard.width} columns")
    k = index.shape[0]
    rows = logits.reshape(-1, width)
    target = slot.device["tokens:target"][:k] - (shard.first if shard else 0)
    # A clamp, because a bad index is an error on the device that no `except` can undo.
    place = target.clamp(0, width - 1)
    is_here = (place == target) & slot.device["tokens:valid"][:k].bool()
    target_logit = rows[index, place].float()
    sums, larger = _scan(rows, index, target_logit)
    if shard is not None:
        _write(slot, k, lse_maximum=sums.maximum, lse_sum=sums.total, lse_dot=sums.dot,
               lse_square=sums.square, target_logit=target_logit.masked_fill(~is_here, 0.0))  # fmt: skip
    else:
        log_prob = target_logit - log_total_of(sums)
        _write(slot, k, log_prob=log_prob.masked_fill(~is_here, 0.0), entropy=entropy_of(sums),
               varentropy=varentropy_of(sums), rank=larger * is_here)  # fmt: skip
    slot.capture.vocabulary = shard.vocabulary if shard else int(width)


def _scan(
    rows: torch.Tensor, index: torch.Tensor, target: torch.Tensor
) -> tuple[SoftmaxSums, torch.Tensor]:
    """Return the sums over the columns of the chosen rows, and how many logits exceed `target`, int32 (k,)."""
    chunks = (
        (sums_of(part), (part > target.unsqueeze(1)).sum(dim=1, dtype=torch.int32))
        for part in _chunks(rows, index)
    )
    sums, larger = next(chunks)
    for more, above in chunks:
        sums, larger = merge_sums(sums, more), larger + above
    return sums, larger


def _chunks(rows: torch.Tensor, index: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the chosen rows, float32 (k, at most _CHUNK), one part of the vocabulary after the other."""
    for first in range(0, rows.shape[1], _CHUNK):
        yield rows[:, first : first + _CHUNK].index_select(0, index).float()


def _write(slot: Slot, k: int, **found: torch.Tensor) -> None:
    for name, values in found.items():
        slot.device[f"tokens:{name}"][:k].copy_(values)
    slot.capture.columns += list(found)


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
