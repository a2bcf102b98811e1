"""Token rows whose logits were cut up over ranks: equal to whole ones, in any order, split and over restarts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from infoplane.agent import tokens
from infoplane.agent.batch import Batch
from infoplane.agent.layout import Layout
from infoplane.agent.slots import Slot
from infoplane.collector.assemble.bodies import TokensBody, restore
from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

V, K = 37, 24
BOUNDS = (0, 10, 11, V)  # uneven, one shard of a single column
SAMPLING = pb.Sampling(rows_per_window=64, rows_per_step=K)


def logits_of(step: int) -> tuple[torch.Tensor, Batch]:
    generator = torch.Generator().manual_seed(step)
    logits = 6 * torch.randn(2, K // 2, V, generator=generator)
    logits[0, 0, 10] = torch.inf * -1  # a shard without any finite logit in this row
    targets = torch.randint(0, V, (2, K // 2), generator=generator)
    targets[1, 3] = tokens.IGNORE_INDEX
    targets[0, 0] = 3
    return logits, Batch(targets, targets, False)


def record(step: int, shard: int | None, parts: int = len(BOUNDS) - 1) -> pb.Tokens:
    """Return what a rank says about `step`: the whole logits, or its columns."""
    layout = Layout()
    tokens.add_regions(layout, K)
    slot = Slot(layout, torch.device("cpu"))
    slot.capture.k = K
    logits, batch = logits_of(step)
    index = torch.arange(K)
    tokens.write_targets(batch, index, slot)
    if shard is None:
        tokens.write_likelihood(logits, index, slot)
    else:
        first, last = BOUNDS[shard], BOUNDS[shard + 1]
        own = tokens.VocabularyShard(first, last - first, V)
        tokens.write_likelihood(logits[..., first:last], index, slot, own)
    keys = np.arange(K, dtype=np.uint64) * np.uint64(100) + np.uint64(step)
    columns = tokens.columns(slot, "ids", 0)
    return pb.Tokens(
        sampling=SAMPLING,
        rows_total=K if not shard else 0,
        row_keys=to_tensor(keys),
        columns=[pb.Column(name=n, values=to_tensor(v)) for n, v in columns.items()],
        token_mode="ids",
        vocabulary=slot.capture.vocabulary,
        parts=0 if shard is None else parts,
    )


def body_of(records: list[pb.Tokens]) -> TokensBody:
    first, *others = map(TokensBody.of, records)
    for other in others:
        assert first.agrees_with(other)
        first.add(other)
    return first


def columns_of(body: TokensBody) -> dict[str, np.ndarray]:
    (pane,) = body.parts()
    found = {c.name: from_tensor(c.values) for c in pane.tokens.columns}
    return {**found, "keys": from_tensor(pane.tokens.row_keys)}


def assert_close(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_allclose(found[name], values, rtol=0, atol=2e-6, err_msg=name)


SHARDS = [record(step, shard) for step in range(2) for shard in range(len(BOUNDS) - 1)]


def test_shards_equal_the_whole_vocabulary() -> None:
    body = body_of(SHARDS)
    whole = columns_of(body_of([record(0, None), record(1, None)]))
    del whole["rank"]  # no rank knows another one's target logit
    found = columns_of(body)
    assert_close(found, whole)
    np.testing.assert_allclose(found["entropy"], whole["entropy"], rtol=0, atol=1e-6)
    assert (body.rows_total, body.vocabulary) == (2 * K, V)


def test_entropy_equals_the_softmax_in_float64() -> None:
    found = columns_of(body_of(SHARDS[:3]))
    log_p = torch.log_softmax(logits_of(0)[0].double(), -1).reshape(K, V).numpy()
    p = np.exp(log_p)
    entropy = -np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(1)
    np.testing.assert_allclose(found["entropy"], entropy, rtol=0, atol=1e-6)
    centred = np.where(p > 0, log_p, 0) + entropy[:, None]
    np.testing.assert_allclose(found["varentropy"], (p * centred**2).sum(1), rtol=1e-5)


def test_order_does_not_matter() -> None:
    wanted = columns_of(body_of(SHARDS[:3]))
    for order in itertools.permutations(SHARDS[:3]):
        assert_close(columns_of(body_of(list(order))), wanted)


@pytest.mark.parametrize("cut", range(1, len(SHARDS)))
def test_any_split_merges_to_the_same(cut: int) -> None:
    left, right = body_of(SHARDS[:cut]), body_of(SHARDS[cut:])
    left.add(right)
    assert_close(columns_of(left), columns_of(body_of(SHARDS)))


@pytest.mark.parametrize("cut", range(1, len(SHARDS)))
def test_a_restart_between_records_changes_nothing(cut: int) -> None:
    before = body_of(SHARDS[:cut])
    after = restore([pb.WindowPane.FromString(p.SerializeToString()) for p in before.dump()])
    assert isinstance(after, TokensBody)
    for message in SHARDS[cut:]:
        other = TokensBody.of(message)
        assert after.agrees_with(other)
        after.add(other)
    assert_close(columns_of(after), columns_of(body_of(SHARDS)))


def test_rows_wait_for_all_parts() -> None:
    found = columns_of(body_of(SHARDS[:2]))
    assert {len(values) for values in found.values()} == {0}
    assert_close(columns_of(body_of(SHARDS[:5])), columns_of(body_of(SHARDS[:3])))


def test_the_smallest_keys_stay() -> None:
    many = [record(step, shard) for step in range(30) for shard in range(len(BOUNDS) - 1)]
    found = columns_of(body_of(many))
    expected = sorted(100 * i + step for i in range(K) for step in range(30))[:64]
    np.testing.assert_array_equal(found["keys"], expected)


def test_whole_and_cut_rows_do_not_mix() -> None:
    whole, cut = TokensBody.of(record(0, None)), TokensBody.of(SHARDS[0])
    assert not whole.agrees_with(cut)
    assert not cut.agrees_with(whole)
    assert not cut.agrees_with(TokensBody.of(record(0, 0, parts=2)))


def test_parts_that_contradict_themselves_are_refused() -> None:
    odd = pb.Tokens.FromString(SHARDS[0].SerializeToString())
    del odd.columns[[column.name for column in odd.columns].index("lse_dot")]
    with pytest.raises(DecodeError, match="part of the vocabulary"):
        TokensBody.of(odd)
    odd = pb.Tokens.FromString(SHARDS[0].SerializeToString())
    odd.parts = 1 << 20
    with pytest.raises(DecodeError, match="parts"):
        TokensBody.of(odd)
