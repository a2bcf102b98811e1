"""Entropy of attention, computed for a few query rows from queries, keys and what hides keys: pure functions.

For a query row with scores S over the keys that it sees, H = logsumexp(S) - E_p[S] nats, p = softmax(S). Keys and
queries stay as they are: with grouped queries, the G query heads of a key head are rows of one product, so no key is
copied. What a mask does not say (causality, windows, packed sequences) is derived from positions.

Which rows, which heads and what is sent: docs/captures.md.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

from infoplane.agent.softmax_sums import SoftmaxSums, entropy_of, merge_sums, sums_of

# Floats of scratch at once, 16 MiB in each of three arrays: heads are taken in chunks where a sequence is longer.
_BUDGET: Final = 1 << 22
# With fewer keys than this, log n is too small a yardstick to compare heads by.
FEWEST_KEYS: Final = 32
FIELDS: Final = (
    "entropy_sum",
    "entropy_square",
    "entropy_count",
    "normalised_sum",
    "normalised_square",
    "normalised_count",
    "nonfinite",
)


class Visibility(NamedTuple):
    """What the sampled query rows see; both broadcast to (B, H, m, K).

    Attributes:
        visible: bool, keys that a row sees.
        bias: float32 added to the scores, None for nothing.
    """

    visible: torch.Tensor
    bias: torch.Tensor | None = None


def row_entropies(
    query: torch.Tensor,
    key: torch.Tensor,
    sight: Visibility,
    scale: float,
    softcap: float | None = None,
) -> torch.Tensor:
    """Return the entropy of every sampled row in nats, float32 (B, H, m); NaN for a row that sees nothing.

    Args:
        query: sampled rows (B, H, m, D), any float type.
        key: (B, Hkv, K, D) with H a multiple of Hkv; head h reads key head h // (H / Hkv).
        sight: what the rows see.
        scale: factor on the scores.
        softcap: c of c tanh(s / c), None for none.

    Cost: 2 B H m K D flop, one read of the keys, scratch of 3 B H m K floats in chunks of at most 64 MiB.
    """
    batch, heads, rows, _ = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    group = heads // kv_heads
    grouped = query.float().reshape(batch, kv_heads, group * rows, -1) * scale
    visible = _grouped(sight.visible, kv_heads)
    bias = None if sight.bias is None else _grouped(sight.bias, kv_heads)
    size = max(1, _BUDGET // (batch * keys * (group * rows + query.shape[-1])))
    found = []
    for first in range(0, kv_heads, size):
        part = slice(first, first + size)
        scores = grouped[:, part] @ key[:, part].float().transpose(-1, -2)
        scores = scores.view(batch, -1, group, rows, keys)
        if softcap is not None:
            scores = scores.div_(softcap).tanh_().mul_(softcap)
        if bias is not None:
            scores = scores + _heads_of(bias, part)
        scores = scores.masked_fill_(~_heads_of(visible, part), -torch.inf)
        found.append(entropy_of(sums_of(scores)).float())
    return torch.cat(found, dim=1).view(batch, heads, rows)


def _grouped(value: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Return (B, H or 1, m, K) as (B, Hkv or 1, G or 1, m, K)."""
    if value.shape[1] == 1:
        return value.unsqueeze(1)
    return value.reshape(value.shape[0], kv_heads, -1, *value.shape[2:])


def _heads_of(value: torch.Tensor, part: slice) -> torch.Tensor:
    return value if value.shape[1] == 1 else value[:, part]


def summarise(entropy: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Return what adds up over rows, steps and ranks, by head: float32 (7, H), rows as in `FIELDS`.

    Raw values count every row that sees a key. Values over log n, n the number of visible keys, count rows with n of
    at least 32, or 2 where there are not more than 32 keys: near the start of a sequence, log n is no yardstick.

    Args:
        entropy: nats, (B, H, m).
        visible: bool, broadcasts to (B, H, m, K).
    """
    keys = visible.shape[-1]
    seen = visible.sum(dim=-1).to(torch.float32).expand_as(entropy)
    is_finite = entropy.isfinite()
    is_counted = is_finite & (seen >= 1)
    is_compared = is_finite & (seen >= (FEWEST_KEYS if keys > FEWEST_KEYS else 2))
    relative = entropy / seen.clamp(min=2).log()
    is_odd = ~is_finite & (seen >= 1)
    return torch.stack(
        (*_powers(entropy, is_counted), *_powers(relative, is_compared), _by_head(is_odd))
    )


def _powers(values: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, ...]:
    held = values.masked_fill(~chosen, 0.0)
    return _by_head(held), _by_head(held.square()), _by_head(chosen)


def _by_head(values: torch.Tensor) -> torch.Tensor:
    return values.sum(dim=(0, 2), dtype=torch.float32)


# ---------------------------------------------------------------- what rows see


def masked_sight(mask: torch.Tensor, rows: torch.Tensor, keys: int) -> Visibility:
    """Return what a boolean (True = seen) or additive mask (B or 1, H or 1, S or 1, K) shows to the rows int64 (m,)."""
    taken = mask[..., :keys]
    if taken.shape[-2] > 1:
        taken = taken.index_select(-2, rows)
    if taken.dtype == torch.bool:
        return Visibility(taken)
    # Libraries hide keys by the lowest number of the type; a bias such as ALiBi stays far above half of it.
    is_seen = taken > torch.finfo(taken.dtype).min / 2
    return Visibility(is_seen, taken.float())


def causal_sight(
    rows: torch.Tensor,
    keys: int,
    *,
    is_causal: bool = True,
    offset: int = 0,
    window: int | None = None,
) -> Visibility:
    """Return what positions alone allow, (1, 1, m, K).

    Args:
        rows: positions of the queries, int64 (m,).
        keys: K.
        is_causal: a row sees keys up to its own position.
        offset: keys before the first query, K - S where the last query sees all keys.
        window: keys seen, the row's own among them; on both sides where it is not causal. None for all.
    """
    place = torch.arange(keys, device=rows.device)
    distance = (rows + offset).unsqueeze(1) - place
    visible = distance >= 0 if is_causal else torch.ones_like(distance, dtype=torch.bool)
    if window is not None:
        visible = visible & (distance.abs() < window)
    return Visibility(visible[None, None])


def within(sight: Visibility, segments: torch.Tensor, rows: torch.Tensor) -> Visibility:
    """Return `sight` without keys of other segments; `segments` integer (B, K), one number a packed sequence."""
    own = segments.index_select(1, rows)
    is_same = own.unsqueeze(-1) == segments.unsqueeze(1)
    return sight._replace(visible=sight.visible & is_same.unsqueeze(1))


def without_padding(sight: Visibility, mask: torch.Tensor, rows: torch.Tensor) -> Visibility:
    """Return `sight` without padding, as a key and as a query; `mask` (B, K), true or not 0 for a token."""
    is_token = mask != 0
    own = is_token.index_select(1, rows)
    is_kept = is_token[:, None, None, :] & own[:, None, :, None]
    return sight._replace(visible=sight.visible & is_kept)


def segments_of_positions(positions: torch.Tensor) -> torch.Tensor:
    """Return the segments (B, S) of position ids (B, S) that start again wherever a sequence does."""
    steps = torch.diff(positions, dim=-1, prepend=positions[:, :1] - 1)
    return (steps != 1).cumsum(-1)


def segments_of_bounds(bounds: torch.Tensor, length: int) -> torch.Tensor:
    """Return the segments (1, length) of cumulative lengths (n + 1,), as flash attention takes them."""
    place = torch.arange(length, device=bounds.device, dtype=bounds.dtype)
    return torch.searchsorted(bounds, place, right=True).unsqueeze(0)


# ---------------------------------------------------------------- keys that are cut up over ranks

Shard = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def shard_sums(scores: torch.Tensor) -> Shard:
    """Return (maximum, sum, dot) of the scores (..., K) of one rank's keys, hidden ones -inf."""
    return sums_of(scores)[:3]


def merge_shards(one: Shard, other: Shard) -> Shard:
    """Return (maximum, sum, dot) over the keys of both: exact, in any order; H = log sum - dot / sum."""
    padded = (SoftmaxSums(*shard, torch.zeros_like(shard[2])) for shard in (one, other))
    return merge_sums(*padded)[:3]


def shard_entropy(shard: Shard) -> torch.Tensor:
    """Return the entropy in nats once the shards of all keys are merged."""
    return entropy_of(SoftmaxSums(*shard, torch.zeros_like(shard[2])))
