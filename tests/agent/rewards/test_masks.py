"""Numbers of tokens and their masks: what is summed, averaged, counted and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.rewards.device import to_host
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.masks import checked_mask, count_tokens
from infoplane.agent.rewards.numbers import hold_numbers

MASK = torch.tensor([[1, 1, 0], [0, 0, 0]])
TOKENS = torch.tensor([[1.0, 2.0, float("nan")], [5.0, float("inf"), 6.0]])


def held(values: Any, mask: Any = MASK, sums: bool = True) -> list[float]:
    kept = hold_numbers("log_prob", values, 2, checked_mask(mask, 2), sums=sums)
    return to_host(kept, torch.float64).tolist()


@pytest.mark.parametrize(
    "values", [TOKENS, TOKENS.numpy(), TOKENS.tolist(), TOKENS.clone().requires_grad_()]
)
@pytest.mark.parametrize("mask", [MASK, MASK.bool(), MASK.numpy(), MASK.float().numpy()])
def test_tokens_are_summed_or_averaged_under_the_mask_only(values: Any, mask: Any) -> None:
    assert held(values, mask) == [3.0, 0.0]
    mean = held(values, mask, sums=False)
    assert mean[0] == 1.5
    assert np.isnan(mean[1])


def test_what_is_one_number_an_event_needs_no_mask_and_minds_none() -> None:
    assert held([1.0, 2.0], None) == held(torch.tensor([1.0, 2.0])) == [1.0, 2.0]


def test_half_precision_is_summed_in_single() -> None:
    values = torch.full((2, 3), 0.1, dtype=torch.bfloat16)
    many = values.repeat(1, 1000)
    found = hold_numbers("log_prob", many, 2, torch.ones(2, 3000, dtype=torch.bool), sums=True)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(to_host(found, torch.float64), 3000 * float(values[0, 0]), rtol=1e-5)


def test_sums_belong_to_the_agent_and_leave_the_graph() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    kept = hold_numbers("log_prob", values, 2, MASK != 0, sums=True)
    assert isinstance(kept, torch.Tensor)
    assert not kept.requires_grad
    with torch.no_grad():
        values.zero_()
    assert kept.tolist() == [2.0, 0.0]


def test_tokens_are_counted() -> None:
    mask = checked_mask(np.array([[2, 1, 0], [0, 0, 0.5]]), 2)
    assert mask is not None
    assert count_tokens(mask).tolist() == [2, 1]
    assert checked_mask(None, 2) is None


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        (TOKENS, None),
        (TOKENS, MASK[:, :2]),
        (TOKENS, MASK[:1]),
        (TOKENS, MASK[0]),
        (TOKENS, [[1, 1, 0], [0, 0, 0]]),
        (TOKENS, np.array([["secret"] * 3] * 2)),
        (TOKENS, "secret"),
        (TOKENS.to(torch.complex64), MASK),
        (TOKENS[None], MASK),
        (torch.ones(2, 3, device="meta"), MASK),
    ],
)
def test_wrong_masks_are_refused(values: Any, mask: Any) -> None:
    with pytest.raises(EventError) as caught:
        held(values, mask)
    assert "secret" not in str(caught.value)
