"""Information along runs: closed forms, null, ceiling, restarts of runs, bands."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infoplane.estimators import sequence_mi


def walks(t: int, s: int, length: int, d: int, seed: int, memory: float) -> torch.Tensor:
    """Return runs of an autoregressive walk; memory 0 is white noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(t, s, length, d, generator=generator, dtype=torch.float64)
    rows = [noise[:, :, 0]]
    for place in range(1, length):
        rows.append(memory * rows[-1] + math.sqrt(1 - memory**2) * noise[:, :, place])
    return torch.stack(rows, 2)


def plain(run: torch.Tensor, neighbours: int, temperature: float) -> float:
    """Return the bound of one run ``(T, d)`` position by position."""
    unit = run / run.norm(dim=-1, keepdim=True)
    score = (unit @ unit.T / temperature).exp()
    length = len(run)
    losses = []
    for t in range(neighbours, length - neighbours):
        others = [u for u in range(length) if u != t]
        near = [u for u in others if abs(u - t) <= neighbours]
        losses.append(-math.log(float(score[t, near].sum() / score[t, others].sum())))
    return math.log((length - 1) / (2 * neighbours)) - sum(losses) / len(losses)


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.5), (2, 0.1), (3, 0.07)])
def test_value_is_that_of_the_formula(neighbours: int, temperature: float) -> None:
    runs = walks(1, 3, 130, 8, 0, 0.8)
    (found,) = sequence_mi(runs, seeds=[0], neighbours=neighbours, temperature=temperature)
    truth = np.mean([plain(run, neighbours, temperature) for run in runs[0]])
    assert found.value == pytest.approx(truth, abs=1e-9)
    assert found.n == 3 * (130 - 2 * neighbours)


def test_permuted_runs_are_the_null() -> None:
    runs = walks(1, 2, 128, 16, 1, 0.9)
    generator = torch.Generator().manual_seed(5)
    mixed = []
    for _ in range(30):
        order = torch.stack([torch.randperm(128, generator=generator) for _ in range(2)])
        mixed.append(runs[0].gather(1, order[..., None].expand(-1, -1, 16)))
    values = [one.value for one in sequence_mi(torch.stack(mixed), seeds=range(30))]
    (found,) = sequence_mi(runs, seeds=[3], permutations=30)
    assert found.null_mean == pytest.approx(np.mean(values), abs=4 * np.std(values) / 5)
    assert found.null_sd == pytest.approx(np.std(values), rel=0.5)
    assert found.null_mean <= 0.0 < found.value


def test_neighbours_of_a_slow_walk_are_told_from_the_rest() -> None:
    values = [
        sequence_mi(walks(1, 8, 128, 32, 0, memory), seeds=[0])[0] for memory in (0.0, 0.5, 0.8)
    ]
    assert [one.value for one in values] == sorted(one.value for one in values)
    assert values[-1].value > 2.0
    assert values[-1].ceiling == pytest.approx(math.log(127 / 4))
    assert all(one.value <= one.ceiling for one in values if one.ceiling)


def test_noise_is_at_its_null() -> None:
    for one in sequence_mi(walks(4, 8, 128, 32, 1, 0.0), seeds=range(4), permutations=8):
        assert one.value == pytest.approx(one.null_mean, abs=4 * one.null_sd)
        assert not one.saturated


def test_perfect_neighbours_reach_the_ceiling_as_the_temperature_falls() -> None:
    """Blocks of five equal rows, orthogonal to each other."""
    rows = torch.eye(26, dtype=torch.float64).repeat_interleave(5, 0)[None, None, :130]
    (one,) = sequence_mi(rows, seeds=[0], temperature=1e-3)
    ceiling = math.log(129 / 4)
    assert one.ceiling == pytest.approx(ceiling)
    # Of the four others of a block those within two places are positives.
    shares = {0: 2, 1: 3, 2: 4, 3: 3, 4: 2}
    losses = [-math.log(shares[place % 5] / 4) for place in range(2, 128)]
    assert one.value == pytest.approx(ceiling - sum(losses) / len(losses), abs=1e-6)
    assert one.saturated


def test_scale_and_rotation_do_not_matter() -> None:
    runs = walks(1, 3, 128, 8, 2, 0.8)
    q, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    values = [sequence_mi(x, seeds=[0])[0].value for x in (runs, 1e200 * runs, runs @ q)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)


def test_long_runs_are_scored_in_blocks() -> None:
    """Scores of one run of 800 tokens do not fit one block, those of 128 tokens of several do."""
    long = walks(1, 2, 800, 4, 6, 0.9)
    (found,) = sequence_mi(long, seeds=[0])
    truth = np.mean([plain(run, 2, 0.1) for run in long[0]])
    assert found.value == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("s", [1, 6])
def test_band_is_the_spread_over_samples(s: int) -> None:
    found = sequence_mi(walks(60, s, 200, 16, 7, 0.5), seeds=range(60), permutations=0)
    half = np.mean([one.band[1] - one.value for one in found if one.band]) / 1.96
    assert half == pytest.approx(np.std([one.value for one in found]), rel=0.35)
    assert found[0].null_mean is None


def test_batch_equals_single_and_repeats() -> None:
    runs = walks(3, 2, 128, 8, 3, 0.7)
    together = sequence_mi(runs, seeds=[4, 50, 600])
    assert together == sequence_mi(runs, seeds=[4, 50, 600])
    for i, seed in enumerate((4, 50, 600)):
        assert sequence_mi(runs[i : i + 1], seeds=[seed]) == [together[i]]


def test_degenerate_items_say_why_and_harm_no_other() -> None:
    runs = walks(6, 2, 128, 4, 8, 0.5).float()
    runs[0, 1, 5, 2], runs[1, 0, 0, 0] = torch.nan, torch.inf
    runs[2], runs[3] = 0.0, torch.linspace(1, 9, 4)
    runs[4, 0, 7] = 0.0
    found = sequence_mi(runs, seeds=range(6))
    assert [one.undefined for one in found] == ["nan", "nan", "constant", "constant", "", ""]
    assert sequence_mi(runs[:0], seeds=[]) == []
    for bad in (runs[:1, :0], runs[:1, :, :127], runs[:1, :, :, :0]):
        assert sequence_mi(bad, seeds=[0])[0].undefined == "n"
    # Equal rows within every run, but not among runs: all others score alike.
    flat = torch.randn(1, 2, 1, 4).expand(1, 2, 128, 4)
    assert sequence_mi(flat, seeds=[0])[0].value == pytest.approx(0.0, abs=1e-9)


def test_shorter_runs_are_taken_on_demand() -> None:
    runs = walks(1, 2, 12, 4, 5, 0.5)
    assert sequence_mi(runs, seeds=[0])[0].undefined == "n"
    (short,) = sequence_mi(runs, seeds=[0], min_length=1, neighbours=2)
    assert short.ceiling == pytest.approx(math.log(11 / 4))
    # Too short for negatives on both sides, whatever is asked for.
    assert sequence_mi(runs, seeds=[0], min_length=1, neighbours=3)[0].undefined == "n"


def test_wrong_shapes_and_settings() -> None:
    runs = torch.ones(1, 2, 128, 4)
    with pytest.raises(ValueError, match="runs, seeds"):
        sequence_mi(runs[0], seeds=[0, 1])
    with pytest.raises(ValueError, match="runs, seeds"):
        sequence_mi(runs, seeds=[])
    for wrong in ({"neighbours": 0}, {"temperature": 0.0}, {"permutations": -1}):
        with pytest.raises(ValueError, match="neighbours, temperature, permutations"):
            sequence_mi(runs, seeds=[0], **wrong)
