"""Every sketch against numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from infoplane.agent.layout import Layout
from infoplane.agent.projection import Projection, projection_matrix
from infoplane.agent.sketch import (
    ACT_ELEMENTS,
    NORM_FIELDS,
    add_act_regions,
    add_block_regions,
    sketch_act,
    sketch_block,
)
from infoplane.estimators.state import LogHistogram

DIM, K = 16, 8


def views_of(kind: str) -> dict[str, torch.Tensor]:
    layout = Layout()
    if kind == "block":
        add_block_regions(layout, "t", K, DIM)
    else:
        add_act_regions(layout, "t")
    # Filled, so that a region that is not written whole would show.
    return layout.tensors(torch.full((layout.nbytes,), 77, dtype=torch.uint8))


def activations(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    scale = torch.exp2(torch.randint(-20, 12, (200, 1), generator=generator))
    x = torch.randn(200, 40, generator=generator) * scale
    x[5] = 0.0
    return x.to(dtype)


def block(x: torch.Tensor, index: torch.Tensor) -> dict[str, npt.NDArray[Any]]:
    views = views_of("block")
    matrix = Projection(DIM, 0).matrix(x.shape[1], x.device)
    sketch_block(x, matrix, index, views, "t")
    return {name.removeprefix("t:"): view.numpy() for name, view in views.items()}


def near_edges(x: npt.NDArray[np.float64]) -> int:
    """Return how many magnitudes float32 may put into a neighbouring bucket."""
    log = np.log2(np.abs(x[(x != 0) & np.isfinite(x)])) * 8
    return int((np.abs(log - np.round(log)) < 5e-5).sum())


def same_histogram(counts: npt.NDArray[Any], x: npt.NDArray[np.float64], *, signed: bool) -> None:
    expected = LogHistogram.of_values(x, signed=signed)
    assert counts.sum() == x.size
    assert counts[-1] == expected.nonfinite
    # A value moved across an edge is missing in one bucket and too many in the next.
    assert np.abs(counts[:-1] - expected.counts).sum() <= 2 * near_edges(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_block_sketch_equals_numpy(dtype: torch.dtype) -> None:
    x = activations(dtype)
    index = torch.tensor([3, 199, 0, 5, 77])
    found = block(x, index)
    exact = x.double().numpy()
    y = exact @ projection_matrix(40, DIM, 0).astype(np.float64)
    norm = np.linalg.norm(exact, axis=1)
    size = np.abs(y).max()
    np.testing.assert_allclose(found["total"], y.sum(0), atol=1e-5 * size * 14)
    np.testing.assert_allclose(found["outer"], y.T @ y, atol=1e-5 * size**2 * 14)
    np.testing.assert_allclose(found["rows"][:5], y[index], atol=1e-6 * size)
    norms = dict(zip(NORM_FIELDS, found["norms"], strict=True))
    expected = [200, (norm**2).sum(), (norm**4).sum(), norm.max(), 0]
    np.testing.assert_allclose(list(norms.values()), expected, rtol=1e-6)
    same_histogram(found["norm_counts"], norm, signed=False)


def test_rows_that_are_not_finite_are_left_out_and_counted() -> None:
    x = activations()
    x[10, 3], x[11, 0], x[12] = float("nan"), float("inf"), 3e38
    found = block(x, torch.tensor([10, 0]))
    kept = np.delete(x.double().numpy(), [10, 11, 12], axis=0)
    y = kept @ projection_matrix(40, DIM, 0).astype(np.float64)
    norms = dict(zip(NORM_FIELDS, found["norms"].tolist(), strict=True))
    assert (norms["n"], norms["nonfinite"]) == (197, 3)
    assert norms["maximum"] == pytest.approx(np.linalg.norm(kept, axis=1).max())
    np.testing.assert_allclose(found["total"], y.sum(0), atol=1e-4 * np.abs(y).max())
    assert np.isfinite(found["outer"]).all()
    assert found["norm_counts"][-1] == 3
    assert np.isnan(found["rows"][0]).all()
    assert np.isfinite(found["rows"][1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_act_sketch_counts_the_elements_of_the_sampled_rows(dtype: torch.dtype) -> None:
    x = activations(dtype)
    x[7, :4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e30])
    index = torch.tensor([7, 5, 100, 8])
    views = views_of("act")
    sketch_act(x, index, views, "t")
    counts = views["t:elements"].numpy()
    same_histogram(counts, x[index].double().numpy(), signed=True)
    assert counts[384] >= 41, "the zero row and -0.0 are zeros"


def test_act_sketch_takes_the_smallest_keys_of_wide_rows() -> None:
    x = torch.randn(64, ACT_ELEMENTS // 4)
    index = torch.arange(10, 42)
    views = views_of("act")
    sketch_act(x, index, views, "t")
    same_histogram(views["t:elements"].numpy(), x[10:14].double().numpy(), signed=True)


def test_powers_of_two_fall_exactly_on_their_bucket() -> None:
    x = torch.exp2(torch.arange(-30, 30).float()).repeat(2, 1)
    x[1] *= -1
    views = views_of("act")
    sketch_act(x, torch.tensor([0, 1]), views, "t")
    expected = LogHistogram.of_values(x.numpy()).counts
    np.testing.assert_array_equal(views["t:elements"].numpy()[:-1], expected)


def test_a_buffer_is_fully_rewritten_by_the_next_step() -> None:
    x, index = activations(), torch.arange(K)
    views = views_of("block")
    matrix = Projection(DIM, 0).matrix(40, x.device)
    sketch_block(x * 3, matrix, index, views, "t")
    sketch_block(x, matrix, index, views, "t")
    for name, fresh in block(x, index).items():
        np.testing.assert_array_equal(views[f"t:{name}"].numpy(), fresh)
