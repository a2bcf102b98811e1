"""Rows chosen by novelty: who is chosen, with which probability, and that the rest stays a uniform sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent.counters import Counters
from infoplane.agent.directives import Reference
from infoplane.agent.identity import Coordinates
from infoplane.agent.novelty import (
    Choice,
    NoveltySampling,
    distances,
    novelty_sampling,
    scoring_tap,
    why_off,
)
from infoplane.agent.projection import Projection
from infoplane.agent.sampling import RowSampling
from infoplane.agent.taps import Tap

CPU = torch.device("cpu")
N, D, R, K, C = 900, 24, 16, 64, 16


def heavy_rows() -> torch.Tensor:
    """Rows (N, D): copies of a few tokens, and some that are far from everything."""
    generator = torch.Generator().manual_seed(5)
    words = torch.randn(40, D, generator=generator)
    rows = words[torch.randint(0, 40, (N,), generator=generator)].clone()
    rows[::60] *= 25.0
    return rows


def reference(projection: Projection, width: int = D, version: int = 3) -> Reference:
    generator = torch.Generator().manual_seed(6)
    known = torch.randn(32, width, generator=generator) @ projection.matrix(width, CPU)
    return Reference(version, width, known.numpy())


def novelty(key_seed: int = 0, num_novel: int = C) -> tuple[NoveltySampling, Counters]:
    counters, projection = Counters(), Projection(R, 0)
    rule = NoveltySampling(RowSampling(key_seed, 0, K), projection, num_novel, "embed", counters)
    rule.adopt(reference(projection))
    return rule, counters


def chosen(key_seed: int, rows: torch.Tensor) -> Choice:
    return novelty(key_seed)[0].pick(7, rows.shape[0], CPU, 0, rows)


def test_distance_is_that_to_the_nearest_reference_row() -> None:
    generator = torch.Generator().manual_seed(1)
    y, known = torch.randn(50, R, generator=generator), torch.randn(9, R, generator=generator)
    expected = torch.cdist(y.double(), known.double()).amin(1).square()
    torch.testing.assert_close(distances(y, known).double(), expected, rtol=1e-4, atol=1e-5)
    y[3, 2] = torch.nan
    assert torch.isinf(distances(y, known)[3])


def test_the_certain_rows_are_the_most_novel_candidates_and_the_rest_the_smallest_other_keys() -> (
    None
):
    rows = heavy_rows()
    choice = chosen(11, rows)
    keys, candidates = RowSampling(11, 0, 4 * K).pick(7, 0, N, CPU)
    y = rows[candidates] @ Projection(R, 0).matrix(D, CPU)
    far = distances(y, torch.from_numpy(reference(Projection(R, 0)).rows))
    ranked = sorted(range(4 * K), key=lambda i: (-round(float(far[i]), 3), int(candidates[i])))
    certain = set(ranked[:C])
    rest = [i for i in range(4 * K) if i not in certain][: K - C]
    expected = sorted([*certain, *rest])
    assert choice.keys.tolist() == keys[expected].tolist()
    assert choice.index.tolist() == candidates[expected].tolist()
    part = 4 * K / N
    probability = [part if i in certain else part * (K - C) / (4 * K - C) for i in expected]
    np.testing.assert_allclose(choice.inclusion.numpy(), probability, rtol=1e-6)
    assert choice.version == 3


def test_the_smallest_keys_of_the_sample_are_those_of_all_rows() -> None:
    rows = heavy_rows()
    for seed in range(50):
        choice = chosen(seed, rows)
        plain_keys, plain = RowSampling(seed, 0, K - C).pick(7, 0, N, CPU)
        assert choice.keys[: K - C].tolist() == plain_keys.tolist()
        assert choice.index[: K - C].tolist() == plain.tolist()


@pytest.mark.parametrize("num_rows", [K + 1, 2 * K, N])
def test_weighted_sums_are_unbiased(num_rows: int) -> None:
    """Over many hash seeds, for values that novelty depends on, values that it does not, and counts."""
    rows = heavy_rows()[:num_rows]
    place = torch.arange(num_rows, dtype=torch.float64)
    values = torch.stack(
        [rows.double().square().sum(1), place, torch.ones_like(place), rows[:, 0].double() ** 3], 1
    )
    sums = []
    for seed in range(1500):
        choice = chosen(seed, rows)
        weight = 1.0 / choice.inclusion.double()
        sums.append((values[choice.index] * weight[:, None]).sum(0))
    found = torch.stack(sums)
    error = found.mean(0) - values.sum(0)
    sigma = found.std(0) / np.sqrt(len(found))
    assert (error.abs() <= 3 * sigma + 1e-5 * values.sum(0).abs()).all(), (error / sigma).tolist()


def test_with_novel_rows_a_heavy_tail_is_summed_with_less_error() -> None:
    rows = heavy_rows()
    energy = rows.double().square().sum(1)
    mixed, plain = [], []
    for seed in range(300):
        choice = chosen(seed, rows)
        mixed.append(float((energy[choice.index] / choice.inclusion.double()).sum()))
        _, index = RowSampling(seed, 0, K).pick(7, 0, N, CPU)
        plain.append(float(energy[index].sum() * N / K))
    assert np.std(mixed) < 0.75 * np.std(plain)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_rows": K}, "all_rows"),
        ({"scored": None}, "other_tap"),
        ({"scored": torch.zeros(N, D + 1)}, "width"),
    ],
)
def test_where_novelty_cannot_be_scored_rows_go_by_key(change: Any, reason: str) -> None:
    rule, counters = novelty(4)
    given = {"num_rows": N, "scored": heavy_rows(), **change}
    choice = rule.pick(7, given["num_rows"], CPU, 0, given["scored"])
    keys, index = RowSampling(4, 0, K).pick(7, 0, given["num_rows"], CPU)
    assert (choice.keys.tolist(), choice.index.tolist()) == (keys.tolist(), index.tolist())
    assert choice.inclusion.tolist() == pytest.approx([K / given["num_rows"]] * K)
    assert choice.version == 0
    assert counters.snapshot() == {("novelty_skipped", reason): 1}


def test_without_a_reference_rows_go_by_key_and_nothing_is_counted() -> None:
    rule, counters = novelty(4)
    rule.adopt(None)
    assert rule.pick(7, N, CPU, 0, heavy_rows()).version == 0
    assert counters.snapshot() == {}


def test_errors_never_leave_and_end_the_choice_after_three() -> None:
    rule, counters = novelty(4)
    rule.adopt(Reference(9, D, np.zeros((3, R + 1), np.float32)))
    for _ in range(4):
        assert rule.pick(7, N, CPU, 0, heavy_rows()).version == 0
    assert counters.total("novelty_errors") == 3
    assert counters.snapshot()["novelty_skipped", "errors"] == 1
    rule.adopt(reference(Projection(R, 0)))
    assert rule.pick(7, N, CPU, 0, heavy_rows()).version == 3


def test_rows_that_are_not_finite_are_novel() -> None:
    rows = heavy_rows()
    _, candidates = RowSampling(2, 0, 4 * K).pick(7, 0, N, CPU)
    rows[candidates[100], 3] = torch.nan
    assert int(candidates[100]) in chosen(2, rows).index.tolist()


def test_no_random_state_is_used() -> None:
    before = torch.get_rng_state()
    chosen(0, heavy_rows())
    assert torch.equal(torch.get_rng_state(), before)


def tap(name: str, layer: int, kind: Any = "block", *, is_sharded: bool = False) -> Tap:
    return Tap(name, nn.Identity(), kind, False, layer, is_sharded)


def test_the_scoring_tap_is_the_first_that_fires() -> None:
    blocks = [tap("01/block", 1), tap("00/block", 0)]
    assert scoring_tap(blocks) == "00/block"
    assert scoring_tap([*blocks, tap("embed", -1)]) == "embed"
    assert scoring_tap([*blocks, tap("00/act", 0, "act")]) == ""
    assert scoring_tap([tap("00/block", 0, is_sharded=True)]) == ""
    assert scoring_tap([]) == ""


def test_layouts_in_which_ranks_could_not_choose_alike_have_no_novel_rows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert why_off(Coordinates(dp_size=8, sp_size=2), "embed") == ""
    assert "stages" in why_off(Coordinates(pp_size=2), "embed")
    assert "tensor" in why_off(Coordinates(tp_size=2), "embed")
    assert "tap" in why_off(Coordinates(), "")
    counters = Counters()
    arguments = (RowSampling(0, 0, K), Projection(R, 0), [tap("embed", -1)])
    assert novelty_sampling(0.25, *arguments, Coordinates(pp_size=2), counters) is None
    assert "no rows are chosen by novelty" in caplog.text
    assert counters.snapshot() == {("novelty_skipped", "layout"): 1}
    rule = novelty_sampling(0.25, *arguments, Coordinates(), counters)
    assert rule is not None
    assert (rule.num_novel, rule.num_uniform, rule.tap) == (16, 48, "embed")
    assert novelty_sampling(0.0, *arguments, Coordinates(), counters) is None


def test_nothing_is_read_back_to_the_host() -> None:
    """Tensors without data: an operation whose shape depends on values, or that reads one, would raise."""
    rule, counters = novelty(3)
    meta = torch.device("meta")
    choice = rule.pick(7, N, meta, 0, torch.empty(N, D, device=meta))
    assert counters.snapshot() == {}
    assert choice.version == 3
    assert (choice.keys.shape, choice.index.shape, choice.inclusion.shape) == ((K,),) * 3
