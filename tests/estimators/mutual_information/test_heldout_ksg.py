"""The default estimator: nothing on nothing, the truth on clusters and on few directions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators import Estimate, heldout_ksg, heldout_ksg_labels


def mean(estimates: list[Estimate]) -> float:
    """Return the mean value."""
    return sum(e.value for e in estimates) / len(estimates)


@pytest.mark.parametrize("d", [5, 25, 50, 100])
def test_independent_data_share_nothing(data: SimpleNamespace, d: int) -> None:
    x, y = data.independent(4, 1024, d, seed=1000 + d)
    estimates = heldout_ksg(x, y, seeds=range(4), permutations=2)
    assert abs(mean(estimates)) <= 0.05
    assert all(abs(e.null_mean or 0.0) <= 0.08 and e.null_sd is not None for e in estimates)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.3, 0.9])
def test_noisy_channel_between_clusters(data: SimpleNamespace, error: float) -> None:
    case = data.noisy_channel(3, 2048, seed=77, error=error)
    pairs = heldout_ksg(case.x, case.y, seeds=range(3), permutations=0)
    labels = heldout_ksg_labels(case.x, case.labels, seeds=range(3), permutations=0)
    assert mean(pairs) == pytest.approx(case.truth, abs=0.05)
    assert mean(labels) == pytest.approx(case.truth, abs=0.05)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.15), (4, 0.35)])
def test_evenly_spread_gaussian_pairs(data: SimpleNamespace, d: int, tolerance: float) -> None:
    x, y = data.gaussian_pairs(5, 1024, d, seed=31, nats=1.0, directions=d)
    value = mean(heldout_ksg(x, y, seeds=range(5), permutations=0))
    assert value == pytest.approx(1.0, abs=tolerance)


@pytest.mark.parametrize("directions", [1, 2])
def test_few_directions_of_many_after_rotation(data: SimpleNamespace, directions: int) -> None:
    x, y = data.gaussian_pairs(5, 2048, 64, seed=41, nats=1.0, directions=directions)
    x, y = data.rotated(x, 5), data.rotated(y, 6)
    value = mean(heldout_ksg(x, y, seeds=range(5), permutations=0))
    assert 0.85 <= value <= 1.1


def test_independent_labels_share_nothing(data: SimpleNamespace) -> None:
    x, _ = data.independent(4, 1024, 32, seed=8)
    labels = torch.randint(0, 50, (4, 1024), generator=torch.Generator().manual_seed(9))
    estimates = heldout_ksg_labels(x, labels, seeds=range(4), permutations=2)
    assert abs(mean(estimates)) <= 0.05


def test_perfect_labels_reach_the_ceiling_and_say_so(data: SimpleNamespace) -> None:
    case = data.noisy_channel(1, 1024, seed=3, error=0.0)
    (estimate,) = heldout_ksg_labels(case.x, case.labels, seeds=[0], permutations=0)
    assert estimate.saturated
    assert estimate.value == pytest.approx(estimate.ceiling, abs=0.03)


def test_value_does_not_depend_on_scale_or_on_monotone_maps(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 400, 6, seed=2, nats=1.0, directions=1)
    plain = heldout_ksg(x, y, seeds=[1, 2], permutations=0)
    mapped = heldout_ksg(100.0 * x**3 + 5.0, torch.exp(y), seeds=[1, 2], permutations=0)
    assert [e.value for e in mapped] == pytest.approx([e.value for e in plain], abs=1e-9)


def test_shared_scale_alone_is_seen(data: SimpleNamespace) -> None:
    """Student vectors are uncorrelated and share their norm; 5 + 5 columns, 2 degrees: 0.4482."""
    x, y = data.independent(4, 1024, 5, seed=12)
    generator = torch.Generator().manual_seed(13)
    chi = torch.randn(4, 1024, 2, generator=generator, dtype=torch.float64).square().sum(-1)
    scale = (chi / 2.0).sqrt().unsqueeze(-1)
    value = mean(heldout_ksg(x / scale, y / scale, seeds=range(4), permutations=0))
    assert value == pytest.approx(0.4482, abs=0.12)


def test_same_seed_same_bits_and_batch_equals_single(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(3, 300, 8, seed=5, nats=1.0, directions=2)
    labels = (y[..., 0] > 0).long() + 2 * (y[..., 1] > 0).long()
    for call, partner in ((heldout_ksg, y), (heldout_ksg_labels, labels)):
        batch = call(x, partner, seeds=[7, 8, 9], permutations=3)
        again = call(x, partner, seeds=[7, 8, 9], permutations=3)
        single = [
            call(x[i : i + 1], partner[i : i + 1], seeds=[7 + i], permutations=3)[0]
            for i in range(3)
        ]
        assert batch == again
        for a, b in zip(batch, single, strict=True):
            assert a.value == pytest.approx(b.value, abs=1e-9)
            assert a.null_mean == pytest.approx(b.null_mean, abs=1e-9)
            assert a.null_sd == pytest.approx(b.null_sd, abs=1e-9)


def test_repeated_rows_count_as_clusters() -> None:
    """Identical token ids give identical rows: ln 8 nats, no ties, no infinity."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 8, (1, 1024), generator=generator)
    x = torch.randn(8, 16, generator=generator)[ids]
    y = torch.randn(8, 16, generator=generator)[ids]
    (estimate,) = heldout_ksg(x, y, seeds=[1], permutations=1)
    assert estimate.value == pytest.approx(2.079, abs=0.06)


@pytest.mark.parametrize(
    ("change", "reason"), [("nan", "nan"), ("inf", "nan"), ("constant", "constant"), ("few", "n")]
)
def test_degenerate_items_are_undefined_and_leave_others_alone(
    data: SimpleNamespace, change: str, reason: str
) -> None:
    x, y = data.gaussian_pairs(2, 200, 3, seed=5, nats=1.0, directions=1)
    healthy = heldout_ksg(x[1:], y[1:], seeds=[2], permutations=1)[0]
    labels = (y[..., 0] > 0).long()
    if change == "few":
        x, y, labels = x[:, :20], y[:, :20], labels[:, :20]
    elif change == "constant":
        x[0] = 3.0
    else:
        x[0, 7, 1] = float(change)
    first, second = heldout_ksg(x, y, seeds=[1, 2], permutations=1)
    assert (first.undefined, first.value == first.value) == (reason, False)
    assert heldout_ksg_labels(x, labels, seeds=[1, 2])[0].undefined == reason
    if change != "few":
        assert second.value == pytest.approx(healthy.value, abs=1e-9)


def test_one_class_is_undefined_and_rare_classes_are_not(data: SimpleNamespace) -> None:
    x, _ = data.independent(2, 64, 3, seed=5)
    labels = torch.zeros(2, 64, dtype=torch.long)
    labels[1] = torch.arange(64)
    labels[1, :40] = 1000
    one, rare = heldout_ksg_labels(x, labels, seeds=[1, 2])
    assert one.undefined == "classes"
    assert rare.undefined == "" or rare.undefined == "n"


def test_all_distinct_labels_are_undefined(data: SimpleNamespace) -> None:
    x, _ = data.independent(1, 64, 3, seed=5)
    (estimate,) = heldout_ksg_labels(x, torch.arange(64).unsqueeze(0), seeds=[1])
    assert estimate.undefined == "n"


def test_more_columns_than_rows(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 64, 200, seed=5)
    (estimate,) = heldout_ksg(x, y, seeds=[1], permutations=2)
    assert abs(estimate.value) < 0.5


def test_wrong_shapes_are_refused(data: SimpleNamespace) -> None:
    x, y = data.independent(2, 64, 3, seed=5)
    with pytest.raises(ValueError, match="seeds"):
        heldout_ksg(x, y, seeds=[1])
    with pytest.raises(ValueError, match="x, y"):
        heldout_ksg(x, y[:, :10], seeds=[1, 2])
