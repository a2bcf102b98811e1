"""Updates of weights on one rank: closed forms; tests/integration has ranks and partitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent.probes.holding import Holding
from infoplane.agent.probes.weights import ELEMENTS, _sample
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb

ON = {"probes.weights": "on", "sampling.width": 2}


def summaries(tap: pb.TapSketch) -> dict[str, np.ndarray]:
    return {found.name: from_tensor(found.values) for found in tap.summaries}


def flat(module: nn.Module) -> np.ndarray:
    parts = [p.detach().double().flatten() for p in module.parameters() if p.requires_grad]
    return torch.cat(parts).numpy()


def test_a_small_block_is_looked_at_as_a_whole(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    loop, seen = make_loop(model, **ON), []
    for _ in range(5):
        loop.step()
        seen.append([flat(block) for block in model.blocks])
    taps = loop.taps()
    looks = [step for step in range(5) if "00/weights" in taps[step]]
    assert looks == [0, 2, 4], "once a window of two sampled steps"
    for layer in range(3):
        first, *later = (summaries(taps[step][f"0{layer}/weights"]) for step in looks)
        assert first["elements"] == first["population"] == [seen[0][layer].size]
        assert "delta_square" not in first
        for step, found in zip(looks[1:], later, strict=True):
            now, before = seen[step][layer], seen[step - 2][layer]
            delta = now - before
            np.testing.assert_allclose(found["sum_square"], [now @ now], rtol=1e-9)
            np.testing.assert_allclose(found["delta_square"], [delta @ delta], rtol=1e-9)
            np.testing.assert_allclose(found["inner"], [now @ delta], rtol=1e-9)
            assert (found["steps_smallest"], found["steps_largest"]) == ([2], [2])
            assert found["sketch"].shape == (64,)
            # A CountSketch keeps the norm on average: relative deviation sqrt(2 / 64).
            assert found["sketch"] @ found["sketch"] == pytest.approx(delta @ delta, rel=0.6)


def test_inner_products_of_sketches_are_those_of_updates() -> None:
    """Unbiased over hash functions, that is over layers here; one sketch deviates by |a| |b| / sqrt(r)."""
    size, dim = 3000, 64
    draw = np.random.default_rng(0)
    a = draw.standard_normal(size)
    b = 0.6 * a + 0.8 * draw.standard_normal(size)
    held = Holding(nn.Parameter(torch.zeros(size)), (size,), 0, size, 0, 1, 0)
    found = []
    for layer in range(200):
        (piece,) = _sample(layer, [held])
        bucket = (piece.identities % np.uint64(dim)).astype(np.int64)
        sign = np.where(piece.identities >> np.uint64(63), -1.0, 1.0)
        sketches = [np.bincount(bucket, sign * vector, dim) for vector in (a, b)]
        found.append(sketches[0] @ sketches[1])
    cosines = np.array(found) / (np.linalg.norm(a) * np.linalg.norm(b))
    exact = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    assert cosines.mean() == pytest.approx(exact, abs=4 * cosines.std() / 200**0.5)
    assert cosines.std() < 1.3 / dim**0.5


def test_a_large_block_is_sampled_evenly_and_every_rank_has_its_own_part() -> None:
    sizes = [50_000, 10, 150_000]
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    whole = [Holding(p, (p.numel(),), 0, p.numel(), 0, 1, 0) for p in parameters]
    pieces = _sample(3, whole)
    total = sum(piece.positions.numel() for piece in pieces)
    assert ELEMENTS - 60 < total <= ELEMENTS, "few places are drawn twice"
    assert pieces[0].positions.numel() == pytest.approx(total / 4, rel=0.1)

    def parts(shares: int, slices: int) -> set[int]:
        found: list[int] = []
        for rank in range(shares * slices):
            share, number = rank % shares, rank // shares
            held = []
            for p in parameters:
                length = -(-p.numel() // slices)
                first = number * length
                size = max(0, min(length, p.numel() - first))
                held.append(Holding(p, (p.numel(),), first, size, share, shares, 0))
            found += [int(i) for piece in _sample(3, held) for i in piece.identities]
        assert len(found) == total, "an element is counted twice, or by nobody"
        return set(found)

    every = {int(i) for piece in pieces for i in piece.identities}
    assert parts(3, 1) == every
    assert parts(1, 4) == every


def test_frozen_parameters_do_not_count(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    model.blocks[1].up.requires_grad_(False)
    model.blocks[2].requires_grad_(False)
    loop = make_loop(model, **ON)
    loop.step()
    taps = loop.taps()[0]
    assert summaries(taps["01/weights"])["population"] == [flat(model.blocks[1]).size]
    assert summaries(taps["02/weights"])["population"] == [0]


def test_values_that_are_not_finite_are_counted_and_left_out(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model()
    loop = make_loop(model, **ON)
    loop.step(), loop.step()
    with torch.no_grad():
        model.blocks[0].norm.bias[0] = torch.nan
    loop.step()
    found = summaries(loop.taps()[2]["00/weights"])
    assert found["nonfinite"][0] >= 1
    assert all(np.isfinite(values).all() for values in found.values())
