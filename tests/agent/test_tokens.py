"""Token columns against a plain computation on the whole batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent import scalars, tokens
from infoplane.agent.batch import Batch
from infoplane.agent.identity import Coordinates
from infoplane.agent.layout import Layout
from infoplane.agent.slots import Slot

B, S, V, K = 3, 7, 11, 10
INDEX = torch.tensor([20, 0, 6, 13, 5, 19, 7, 1, 14, 12])


def new_slot() -> Slot:
    layout = Layout()
    tokens.add_regions(layout, 16)
    scalars.add_region(layout)
    slot = Slot(layout, torch.device("cpu"))
    slot.capture.k = K
    return slot


def batch(*, is_shifted: bool) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, V, (B, S), generator=generator)
    targets = torch.randint(0, V, (B, S), generator=generator)
    targets[0, 5] = targets[2, 6] = tokens.IGNORE_INDEX
    return Batch(ids, targets, is_shifted)


@pytest.mark.parametrize("is_shifted", [False, True])
def test_columns_equal_those_of_the_whole_batch(is_shifted: bool) -> None:
    slot, given = new_slot(), batch(is_shifted=is_shifted)
    logits = torch.randn(B, S, V, generator=torch.Generator().manual_seed(1))
    logits[..., 2] = -torch.inf
    given.targets[given.targets == 2] = 3
    tokens.write_targets(given, INDEX, slot)
    tokens.write_likelihood(logits, INDEX, slot)
    found = tokens.columns(slot, "ids", 0)

    wanted = torch.full((B, S), tokens.IGNORE_INDEX)
    if is_shifted:
        wanted[:, :-1] = given.targets[:, 1:]
    else:
        wanted[:] = given.targets
    flat = wanted.flatten()[INDEX].numpy()
    valid = flat != tokens.IGNORE_INDEX
    log_p = torch.log_softmax(logits.double(), -1).reshape(-1, V)[INDEX].numpy()
    p = np.exp(log_p)
    entropy = -np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(1)
    np.testing.assert_array_equal(found["position"], INDEX.numpy() % S)
    np.testing.assert_array_equal(found["valid"], valid)
    np.testing.assert_array_equal(found["target"][valid], flat[valid])
    expected = np.where(valid, log_p[np.arange(K), np.where(valid, flat, 0)], 0)
    np.testing.assert_allclose(found["log_prob"], expected, atol=1e-6)
    np.testing.assert_allclose(found["entropy"], entropy, atol=1e-6)
    mean = np.where(p > 0, p * np.where(p > 0, log_p, 0), 0).sum(1, keepdims=True)
    centred = np.where(p > 0, log_p, mean) - mean
    np.testing.assert_allclose(found["varentropy"], (p * centred**2).sum(1), atol=1e-6)
    own = log_p[np.arange(K), np.where(valid, flat, 0)]
    larger = (log_p > own[:, None]).sum(1)
    np.testing.assert_array_equal(found["rank"], np.where(valid, larger, 0))
    assert found["rank"].dtype == np.int32
    assert slot.capture.vocabulary == V
    assert [found[n].dtype for n in ("position", "target", "valid")] == [
        np.int32,
        np.int32,
        np.uint8,
    ]


def test_modes_decide_what_leaves() -> None:
    slot = new_slot()
    tokens.write_targets(batch(is_shifted=False), INDEX, slot)
    ids = tokens.columns(slot, "ids", 5)["target"]
    hashed = tokens.columns(slot, "buckets", 5)["target"]
    np.testing.assert_array_equal(hashed, tokens.buckets(ids, 5))
    assert "target" not in tokens.columns(slot, "none", 5)


def test_buckets_are_keyed_and_even() -> None:
    ids = np.arange(64_000)
    found = tokens.buckets(ids, 1)
    assert (found.min(), found.max()) == (0, 63)
    # Binomial with mean 1000 and standard deviation 31 per bucket.
    assert np.abs(np.bincount(found) - 1000).max() < 5 * 31.4
    assert (found == tokens.buckets(ids, 2)).mean() < 0.03


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_widened_first(dtype: torch.dtype) -> None:
    slot: Any = new_slot()
    logits = torch.randn(B, S, V, generator=torch.Generator().manual_seed(1)).to(dtype)
    tokens.write_targets(batch(is_shifted=False), INDEX, slot)
    tokens.write_likelihood(logits, INDEX, slot)
    exact = torch.distributions.Categorical(logits=logits.double()).entropy().flatten()[INDEX]
    np.testing.assert_allclose(tokens.columns(slot, "ids", 0)["entropy"], exact, atol=1e-6)


def test_chunks_of_the_vocabulary_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = 5 * torch.randn(B, S, V, generator=torch.Generator().manual_seed(1))
    logits[..., :4] = -torch.inf  # a chunk without any finite logit
    found = []
    for size in (V, 4, 1):
        monkeypatch.setattr(tokens, "_CHUNK", size)
        slot = new_slot()
        tokens.write_targets(batch(is_shifted=False), INDEX, slot)
        tokens.write_likelihood(logits, INDEX, slot)
        found.append(tokens.columns(slot, "none", 0))
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_allclose(other[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_uniform_logits_have_the_entropy_of_their_number_and_no_varentropy() -> None:
    slot = new_slot()
    tokens.write_targets(batch(is_shifted=False), INDEX, slot)
    tokens.write_likelihood(torch.full((B, S, V), 3.0), INDEX, slot)
    found = tokens.columns(slot, "ids", 0)
    np.testing.assert_allclose(found["entropy"], np.log(V), rtol=1e-6)
    np.testing.assert_array_equal(found["varentropy"], 0)
    np.testing.assert_array_equal(found["rank"], 0)


def test_logits_far_apart_stay_exact_in_varentropy() -> None:
    """Two columns of equal weight far above many: Var[log p] = 0 although the tail is 1e6 nats below."""
    slot = new_slot()
    logits = torch.full((B, S, V), -1e6)
    logits[..., :2] = 1e4
    logits[..., 1] += np.log(3)
    tokens.write_targets(batch(is_shifted=False), INDEX, slot)
    tokens.write_likelihood(logits, INDEX, slot)
    found = tokens.columns(slot, "ids", 0)
    p = 1 / (1 + np.exp(float(logits[0, 0, 1] - logits[0, 0, 0])))
    expected = p * (1 - p) * np.log(p / (1 - p)) ** 2
    np.testing.assert_allclose(found["varentropy"], expected, rtol=1e-6)


class ColumnParallelLinear(nn.Module):
    """Has the attributes of Megatron's class, which is found by its name."""

    def __init__(self, output_size: int, *, gather_output: bool) -> None:
        super().__init__()
        self.output_size, self.gather_output = output_size, gather_output


class LinearLayer(nn.Module):
    """Has the attributes of DeepSpeed's class."""

    gather_output = False
    _partition_sizes = (6, 5)


def test_a_head_that_is_cut_up_tells_its_columns() -> None:
    at = Coordinates(rank=1, world=2, tp=1, tp_size=2)
    shard = tokens.vocabulary_shard
    assert shard(LinearLayer(), at) == tokens.VocabularyShard(6, 5, 11)
    megatron = ColumnParallelLinear(10, gather_output=False)
    assert shard(megatron, at) == tokens.VocabularyShard(5, 5, 10)
    assert shard(ColumnParallelLinear(10, gather_output=True), at) is None
    assert shard(nn.Linear(2, 10), at) is None
    assert shard(megatron, Coordinates()) is None
    assert shard(None, at) is None


def test_logits_of_another_width_than_the_shard_are_refused() -> None:
    slot = new_slot()
    tokens.write_targets(batch(is_shifted=False), INDEX, slot)
    shard = tokens.VocabularyShard(0, 6, V)
    with pytest.raises(ValueError, match="11 logits where this rank has 6 columns"):
        tokens.write_likelihood(torch.zeros(B, S, V), INDEX, slot, shard)
