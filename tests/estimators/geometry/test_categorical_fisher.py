"""Steps of predictions: closed forms, divergence, coarse-graining."""

from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators import policy_fisher_step
from infoplane.estimators.geometry.categorical_fisher import (
    categorical_fisher,
    policy_fisher_step_of_kl,
)


def logits(seed: int, *shape: int) -> torch.Tensor:
    """Return standard normal logits."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_closed_forms() -> None:
    p, q = (torch.tensor([x, 1 - x], dtype=torch.float64) for x in (0.1, 0.8))
    truth = 2 * (math.asin(math.sqrt(0.8)) - math.asin(math.sqrt(0.1)))
    assert float(categorical_fisher(p, q)) == pytest.approx(truth, abs=1e-12)
    assert float(categorical_fisher(p, q)) == pytest.approx(1.570796, abs=1e-6)
    assert float(categorical_fisher(p, p)) == 0.0
    ends = torch.eye(2, dtype=torch.float64)
    assert float(categorical_fisher(ends[0], ends[1])) == pytest.approx(math.pi, abs=1e-12)


def test_near_distributions_keep_their_digits() -> None:
    """arccos would say 0 or 2e-8 here."""
    p = torch.tensor([0.5, 0.5], dtype=torch.float64)
    q = torch.tensor([0.5 + 1e-10, 0.5 - 1e-10], dtype=torch.float64)
    assert float(categorical_fisher(p, q)) == pytest.approx(2e-10, rel=1e-5)


def test_triangle_inequality() -> None:
    p, q, r = logits(0, 3, 200, 7).softmax(-1)
    direct = categorical_fisher(p, r)
    assert bool((direct <= categorical_fisher(p, q) + categorical_fisher(q, r) + 1e-12).all())


def test_a_thousand_classes_with_noise_on_the_logits() -> None:
    """About .094 whole and from the divergence, .063 for 32 listed and their tail of .5."""
    before = 2.0 * logits(1, 1, 400, 1000)
    now = before + 0.1 * logits(2, 1, 400, 1000)
    p, q = before.log_softmax(-1), now.log_softmax(-1)
    (whole,) = policy_fisher_step(q, p)
    (root,) = policy_fisher_step_of_kl((q.exp() * (q - p)).sum(-1))
    assert whole.value == pytest.approx(0.0936, rel=0.1)
    assert root.value == pytest.approx(whole.value, rel=0.01)
    previous = 0.0
    for k in (1, 8, 32, 200, 1000):
        top = p.topk(k, -1).indices
        (listed,) = policy_fisher_step(q.gather(-1, top), p.gather(-1, top))
        assert previous < listed.value <= whole.value + 1e-9
        assert listed.parameters == {"k": k}
        previous = listed.value
        if k == 32:
            assert listed.value == pytest.approx(0.063, rel=0.2)
    assert listed.value == pytest.approx(whole.value, abs=1e-6)
    assert whole.band is not None
    assert whole.band[0] < whole.value < whole.band[1]


def test_empty_places_of_a_list_are_its_tail() -> None:
    p = torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64).log()
    q = torch.tensor([[[0.5, 0.1, 0.4]]], dtype=torch.float64).log()
    kept = torch.tensor([True, True, False])
    (cut,) = policy_fisher_step(q.where(kept, -torch.inf), p.where(kept, -torch.inf))
    assert cut.value == pytest.approx(policy_fisher_step(q, p)[0].value, abs=1e-7)
    assert cut.band is None


def test_ends_of_the_scale() -> None:
    p = torch.tensor([[[0.0, -torch.inf]]]).expand(1, 3, 2)
    (still,) = policy_fisher_step(p, p)
    assert (still.value, still.null_mean, still.saturated) == (0.0, 0.0, False)
    (far,) = policy_fisher_step(p, p.flip(-1))
    assert far.value == pytest.approx(math.pi)
    assert far.ceiling == math.pi
    assert far.saturated
    # Rounding of a sum above 1 is scaled away.
    (near,) = policy_fisher_step(p + 1e-4, p)
    assert near.value == pytest.approx(0.0, abs=1e-6)


def test_batch_equals_single_and_bad_items_say_why() -> None:
    now, before = logits(3, 5, 9, 6).log_softmax(-1), logits(4, 5, 9, 6).log_softmax(-1)
    now[1, 2, 3], now[2, 0, 0], now[3, 0] = torch.nan, torch.inf, 0.0
    found = policy_fisher_step(now, before)
    assert [one.undefined for one in found] == ["", "nan", "nan", "nan", ""]
    (single,) = policy_fisher_step(now[4:], before[4:])
    assert single.value == pytest.approx(found[4].value, abs=1e-12)
    assert policy_fisher_step(now[:1, :0], before[:1, :0])[0].undefined == "n"
    assert policy_fisher_step(now[:1, :, :0], before[:1, :, :0])[0].undefined == "d"
    assert policy_fisher_step(now[:0], before[:0]) == []


def test_divergences() -> None:
    kl = torch.tensor([[0.02, 0.02], [0.5, -1e-9], [torch.nan, 0.1], [torch.inf, 0.1]])
    found = policy_fisher_step_of_kl(kl)
    assert [one.undefined for one in found] == ["", "", "nan", "nan"]
    assert [one.value for one in found[:2]] == pytest.approx([0.2, 0.5])
    assert policy_fisher_step_of_kl(kl[:, :0])[0].undefined == "n"


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="now, before"):
        policy_fisher_step(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="kl"):
        policy_fisher_step_of_kl(torch.zeros(3))
    with pytest.raises(ValueError, match="p, q"):
        categorical_fisher(torch.zeros(3), torch.zeros(4))
