"""Every sketch says the same on a CPU and on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.layout import Layout
from infoplane.agent.projection import Projection
from infoplane.agent.sampling import RowSampling
from infoplane.agent.sketch import (
    add_act_regions,
    add_block_regions,
    add_partial_regions,
    sketch_act,
    sketch_block,
    sketch_partial,
)

CPU = torch.device("cpu")
ROWS, WIDTH, DIM = 512, 96, 32
Sketch = Callable[[torch.device, torch.Tensor, Any], None]


def block(device: torch.device, rows: torch.Tensor, views: Any) -> None:
    index = torch.arange(0, ROWS, 8, device=device)
    sketch_block(rows, Projection(DIM, 5).matrix(WIDTH, device), index, views, "t")


def partial(device: torch.device, rows: torch.Tensor, views: Any) -> None:
    index = torch.arange(0, ROWS, 8, device=device)
    sketch_partial(rows, Projection(DIM, 5).matrix(WIDTH, device), index, views, "t")


def act(device: torch.device, rows: torch.Tensor, views: Any) -> None:
    sketch_act(rows, torch.arange(0, ROWS, 8, device=device), views, "t")


def reserve(layout: Layout, sketch: Sketch) -> None:
    if sketch is block:
        add_block_regions(layout, "t", ROWS // 8, DIM)
    elif sketch is partial:
        add_partial_regions(layout, "t", ROWS // 8, DIM)
    else:
        add_act_regions(layout, "t")


@pytest.mark.parametrize("sketch", [block, partial, act])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sketch_is_the_same_on_both(cuda: torch.device, sketch: Sketch, dtype: Any) -> None:
    rows = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = []
    for device in (CPU, cuda):
        layout = Layout()
        reserve(layout, sketch)
        flat = torch.zeros(layout.nbytes, dtype=torch.uint8, device=device)
        sketch(device, rows.to(device), layout.tensors(flat))
        found.append({k: v.cpu().numpy() for k, v in layout.tensors(flat).items()})
    for name, expected in found[0].items():
        if expected.dtype.kind == "i":
            # A value at the border of a bucket may fall on either side.
            assert np.abs(found[1][name] - expected).sum() <= max(2, 1e-3 * expected.sum())
        else:
            np.testing.assert_allclose(found[1][name], expected, rtol=1e-4, atol=1e-4)


def test_rows_and_projection_are_the_same_bit_by_bit(cuda: torch.device) -> None:
    for sampling in (RowSampling(3, 1, 64), RowSampling(3, 1, 64, sp_rank=1, sp_size=2)):
        on_cpu, on_cuda = (sampling.pick(7, 0, ROWS, device, 64) for device in (CPU, cuda))
        assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, on_cuda, strict=True))
    assert torch.equal(
        Projection(DIM, 5).matrix(WIDTH, CPU), Projection(DIM, 5).matrix(WIDTH, cuda).cpu()
    )
