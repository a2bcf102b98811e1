"""Entropy of attention against softmax written out, for every way in which keys can be hidden."""

from __future__ import annotations

import itertools

import pytest
import torch

from infoplane.agent import attention_entropy as entropy
from infoplane.agent.attention_entropy import FIELDS, Visibility

B, S, D = 2, 50, 8
ROWS = torch.tensor([49, 0, 7, 33, 34, 12])


def tensors(heads: int, kv_heads: int, keys: int = S) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(heads)
    query = 2 * torch.randn(B, heads, S, D, generator=generator)
    return query, 2 * torch.randn(B, kv_heads, keys, D, generator=generator)


def reference(
    query: torch.Tensor, key: torch.Tensor, visible: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the entropies (B, H, S) of eager softmax over all rows, float64."""
    repeated = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.double() @ repeated.double().transpose(-1, -2) * D**-0.5
    if bias is not None:
        scores = scores + bias.double()
    p = torch.softmax(scores.masked_fill(~visible, -torch.inf), dim=-1)
    return torch.special.entr(p).sum(-1)


def found_of(query: torch.Tensor, key: torch.Tensor, sight: Visibility) -> torch.Tensor:
    return entropy.row_entropies(query.index_select(2, ROWS), key, sight, D**-0.5)


def assert_entropies(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted.index_select(2, ROWS), rtol=0, atol=1e-5)


CAUSAL = torch.ones(S, S, dtype=torch.bool).tril()


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (6, 1)])
@pytest.mark.parametrize("budget", [1 << 24, 1])
def test_grouped_queries_and_chunks_of_heads(
    heads: int, kv_heads: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy, "_BUDGET", budget)
    query, key = tensors(heads, kv_heads)
    found = found_of(query, key, entropy.causal_sight(ROWS, S))
    assert_entropies(found, reference(query, key, CAUSAL))


@pytest.mark.parametrize("window", [1, 5, 200])
@pytest.mark.parametrize("is_causal", [True, False])
def test_windows(window: int, is_causal: bool) -> None:
    query, key = tensors(4, 2)
    distance = torch.arange(S)[:, None] - torch.arange(S)
    visible = (distance.abs() < window) & (CAUSAL if is_causal else True)
    found = found_of(query, key, entropy.causal_sight(ROWS, S, is_causal=is_causal, window=window))
    assert_entropies(found, reference(query, key, visible))


def test_more_keys_than_queries() -> None:
    query, key = tensors(4, 2, keys=S + 9)
    visible = torch.ones(S, S + 9, dtype=torch.bool).tril(9)
    found = found_of(query, key, entropy.causal_sight(ROWS, S + 9, offset=9))
    assert_entropies(found, reference(query, key, visible))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_additive_masks_hide_keys_and_add_the_rest(dtype: torch.dtype) -> None:
    query, key = tensors(4, 2)
    slopes = torch.tensor([0.5, 0.25, 0.125, 1.0]).view(1, 4, 1, 1)
    bias = slopes * (torch.arange(S) - torch.arange(S)[:, None])
    mask = torch.where(CAUSAL, bias, torch.finfo(dtype).min).to(dtype)
    sight = entropy.masked_sight(mask, ROWS, S)
    visible = CAUSAL.expand(1, 4, S, S)
    assert torch.equal(sight.visible, visible.index_select(2, ROWS))
    assert_entropies(found_of(query, key, sight), reference(query, key, visible, mask.float()))


def test_boolean_masks_of_each_sequence() -> None:
    query, key = tensors(4, 4)
    mask = CAUSAL & (torch.rand(B, 1, S, S, generator=torch.Generator().manual_seed(1)) < 0.7)
    mask |= torch.eye(S, dtype=torch.bool)
    sight = entropy.masked_sight(mask, ROWS, S)
    assert_entropies(found_of(query, key, sight), reference(query, key, mask))


def test_a_mask_that_is_the_same_for_all_queries() -> None:
    query, key = tensors(4, 4)
    mask = (torch.arange(S) < 30).view(1, 1, 1, S)
    sight = entropy.masked_sight(mask, ROWS, S)
    assert_entropies(found_of(query, key, sight), reference(query, key, mask))


@pytest.mark.parametrize("source", ["positions", "bounds"])
def test_packed_sequences(source: str) -> None:
    lengths = (11, 23, 16)
    if source == "positions":
        positions = torch.cat([torch.arange(n) for n in lengths])[None].expand(B, S)
        segments = entropy.segments_of_positions(positions)
    else:
        bounds = torch.tensor([0, 11, 34, 50], dtype=torch.int32)
        segments = entropy.segments_of_bounds(bounds, S).expand(B, S)
    query, key = tensors(4, 2)
    blocks = torch.block_diag(*(torch.ones(n, n) for n in lengths)).bool()
    sight = entropy.within(entropy.causal_sight(ROWS, S), segments, ROWS)
    assert_entropies(found_of(query, key, sight), reference(query, key, CAUSAL & blocks))


def test_padding_is_neither_key_nor_query() -> None:
    query, key = tensors(4, 2)
    mask = torch.ones(B, S, dtype=torch.int64)
    mask[0, :10] = 0
    sight = entropy.without_padding(entropy.causal_sight(ROWS, S), mask, ROWS)
    found = found_of(query, key, sight)
    is_token = mask.bool()
    visible = CAUSAL & is_token[:, None, None, :]
    wanted = reference(query, key, visible | torch.eye(S, dtype=torch.bool))
    is_kept = is_token[:, ROWS][:, None].expand_as(found)
    expected = wanted.index_select(2, ROWS)
    torch.testing.assert_close(found[is_kept].double(), expected[is_kept], rtol=0, atol=1e-5)
    assert found[~is_kept].isnan().all()
    summary = dict(zip(FIELDS, entropy.summarise(found, sight.visible), strict=True))
    # Rows 0 and 7 of the first sequence are padding.
    assert summary["entropy_count"].tolist() == [2 * len(ROWS) - 2] * 4
    assert summary["nonfinite"].tolist() == [0] * 4


def test_uniform_attention_has_the_entropy_of_the_number_of_keys() -> None:
    query, key = torch.zeros(B, 3, S, D), torch.randn(B, 3, S, D)
    sight = entropy.causal_sight(ROWS, S)
    found = found_of(query, key, sight)
    torch.testing.assert_close(found[0, 0], (ROWS + 1.0).log(), rtol=0, atol=1e-6)
    summary = dict(zip(FIELDS, entropy.summarise(found, sight.visible), strict=True))
    raw = (ROWS + 1.0).log()
    torch.testing.assert_close(summary["entropy_sum"], (B * raw.sum()).expand(3))
    torch.testing.assert_close(summary["entropy_square"], (B * raw.square().sum()).expand(3))
    # Positions 49, 33 and 34 have at least 32 keys.
    assert summary["normalised_count"].tolist() == [3 * B] * 3
    torch.testing.assert_close(summary["normalised_sum"], torch.full((3,), 3.0 * B))


def test_short_sequences_compare_all_rows_with_two_keys() -> None:
    rows = torch.tensor([0, 1, 19])
    sight = entropy.causal_sight(rows, 20)
    found = entropy.row_entropies(torch.zeros(B, 2, 3, D), torch.zeros(B, 2, 20, D), sight, 1.0)
    summary = dict(zip(FIELDS, entropy.summarise(found, sight.visible), strict=True))
    assert summary["normalised_count"].tolist() == [2 * B] * 2
    assert summary["entropy_count"].tolist() == [3 * B] * 2


def test_one_key_that_takes_all_has_no_entropy_and_overflow_is_counted() -> None:
    query, key = tensors(2, 2)
    key[:, 0] = 0
    key[:, 0, 0], query[:, 0] = 1e4, 1e4
    query[:, 1, 12] = torch.nan
    sight = entropy.causal_sight(ROWS, S)
    found = found_of(query, key, sight)
    assert found[:, 0].abs().max() == 0
    summary = dict(zip(FIELDS, entropy.summarise(found, sight.visible), strict=True))
    assert summary["nonfinite"].tolist() == [0, B]
    assert summary["entropy_count"].tolist() == [B * 6, B * 5]
    assert all(values.isfinite().all() for values in summary.values())


def test_softcap() -> None:
    query, key = tensors(4, 2)
    sight = entropy.causal_sight(ROWS, S)
    found = entropy.row_entropies(query.index_select(2, ROWS), key, sight, D**-0.5, softcap=3.0)
    repeated = key.repeat_interleave(2, dim=1).double()
    scores = 3 * torch.tanh(query.double() @ repeated.transpose(-1, -2) * D**-0.5 / 3)
    p = torch.softmax(scores.masked_fill(~CAUSAL, -torch.inf), dim=-1)
    assert_entropies(found, torch.special.entr(p).sum(-1))


def test_shards_of_keys_merge_in_any_order() -> None:
    query, key = tensors(4, 4)
    scores = (query @ key.transpose(-1, -2)).masked_fill(~CAUSAL, -torch.inf)
    wanted = reference(query, key, CAUSAL)
    # The first rows see no key of the later shards.
    shards = [entropy.shard_sums(D**-0.5 * part) for part in scores.split((20, 1, 29), dim=-1)]
    for order in itertools.permutations(shards):
        merged = entropy.merge_shards(entropy.merge_shards(order[0], order[1]), order[2])
        other = entropy.merge_shards(order[0], entropy.merge_shards(order[1], order[2]))
        torch.testing.assert_close(entropy.shard_entropy(merged), wanted, rtol=0, atol=1e-5)
        for a, b in zip(merged, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_an_empty_shard_changes_nothing() -> None:
    scores = torch.randn(3, 7)
    one = entropy.shard_sums(scores)
    none = entropy.shard_sums(torch.full((3, 2), -torch.inf))
    for a, b in zip(entropy.merge_shards(one, none), one, strict=True):
        assert torch.equal(a, b)
