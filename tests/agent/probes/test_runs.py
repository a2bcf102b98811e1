"""Runs of neighbouring tokens: whole, coordinated over taps, ranks and merges, with the rows of the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.identity import Coordinates
from infoplane.agent.probes.runs import LENGTH, RUNS, Runs
from infoplane.agent.projection import projection_matrix
from infoplane.agent.settings import Settings
from infoplane.agent.taps import Stack
from infoplane.collector.assemble.rows import RowMerge
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb


def rows_of(tap: pb.TapSketch) -> np.ndarray:
    scale = from_tensor(tap.rows.scale).astype(np.float64)
    return from_tensor(tap.rows.scaled).astype(np.float64) * scale[:, None]


def keep(seen: dict[int, np.ndarray], layer: int, _m: Any, _a: Any, y: torch.Tensor) -> None:
    seen.setdefault(layer, y.detach().double().numpy())


def sent(loop: Any) -> list[pb.Record]:
    return [r for r in loop.records("sketch") if r.unit == "runs"]


def test_rows_are_two_runs_of_neighbours_of_the_first_middle_and_last_block(
    make_model: Callable[..., Any], make_loop: Callable[..., Any]
) -> None:
    model = make_model(layers=5)
    seen: dict[int, np.ndarray] = {}
    for layer in (0, 2, 4):
        model.blocks[layer].register_forward_hook(partial(keep, seen, layer))
    loop = make_loop(model, **{"probes.runs": "on"})
    loop.step(batch=3, length=300)
    (record,) = sent(loop)
    keys = from_tensor(record.sketch.row_keys)
    assert (record.sketch.rows_total, len(keys)) == (900, RUNS * LENGTH)
    assert (np.diff(keys.astype(object)) > 0).all()
    assert (keys & np.uint64(0xFFFF)).reshape(RUNS, LENGTH).tolist() == [list(range(LENGTH))] * RUNS
    assert [tap.tap for tap in record.sketch.taps] == ["runs/00", "runs/02", "runs/04"]

    starts: list[set[tuple[int, int]]] = []
    for tap, layer in zip(record.sketch.taps, (0, 2, 4), strict=True):
        own = rows_of(tap)
        y = seen[layer] @ projection_matrix(seen[layer].shape[-1], 64, 0).astype(np.float64)
        found = set()
        for run in own.reshape(RUNS, LENGTH, -1):
            for b in range(3):
                for c in range(300 // LENGTH):
                    chunk = y[b, c * LENGTH : (c + 1) * LENGTH]
                    if np.abs(chunk - run).max() < 5e-3:
                        found.add((b, c))
        assert len(found) == RUNS, "both runs are chunks of the batch"
        starts.append(found)
    assert starts[0] == starts[1] == starts[2], "all taps take the same runs"


def test_sequences_shorter_than_a_run_are_runs(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**{"probes.runs": "on"})
    loop.step(batch=3, length=20)
    loop.step(batch=1, length=9)
    first, second = sent(loop)
    assert len(from_tensor(first.sketch.row_keys)) == 2 * 20
    assert len(from_tensor(second.sketch.row_keys)) == 9


def test_runs_change_from_step_to_step_and_come_again_with_the_step(
    make_loop: Callable[..., Any],
) -> None:
    keys = []
    for _ in range(2):
        loop = make_loop(**{"probes.runs": "on"})
        for _ in range(2):
            loop.step(batch=8, length=256)
        keys.append([from_tensor(record.sketch.row_keys).tolist() for record in sent(loop)])
    assert keys[0] == keys[1]
    assert not set(keys[0][0]) & set(keys[0][1])


def probe_at(**place: int) -> Runs:
    at = Coordinates(**{"rank": 0, "world": 1, "dp": 0, "dp_size": 1, **place})
    stack = Stack((), 0, (range(0),))
    return Runs(SimpleNamespace(settings=Settings(), coordinates=at, stack=stack), ())  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [256, 384, 1024])
def test_a_union_of_samples_keeps_whole_runs(keep: int) -> None:
    merge = RowMerge(keep)
    for rank in range(4):
        for step in range(8):
            keys, index = probe_at(dp=rank)._pick(step, 4, 512, torch.device("cpu"))
            merge.add(keys.numpy().view(np.uint64), {"position": index.numpy()})
    keys, columns = merge.settle()
    runs, counts = np.unique(keys >> np.uint64(16), return_counts=True)
    assert len(runs) == keep // LENGTH
    assert set(counts) == {LENGTH}
    assert (np.diff(columns["position"].reshape(-1, LENGTH), axis=1) == 1).all()


def test_ranks_and_parts_of_sequences_draw_for_themselves() -> None:
    device = torch.device("cpu")
    of = {
        name: set(probe._pick(3, 4, 512, device)[0].tolist())
        for name, probe in {
            "plain": probe_at(),
            "another rank": probe_at(dp=1, dp_size=2),
            "another part": probe_at(sp=1, sp_size=2),
        }.items()
    }
    assert not of["plain"] & of["another rank"]
    assert not of["plain"] & of["another part"]


def test_every_chunk_is_drawn_equally_often() -> None:
    """200 steps of 2 of 8 chunks: 50 each, standard deviation about 6."""
    counts = np.zeros(8)
    for step in range(200):
        _, index = probe_at()._pick(step, 2, 512, torch.device("cpu"))
        np.add.at(counts, index.numpy()[::LENGTH] // LENGTH, 1)
    assert counts.sum() == 400
    assert abs(counts - 50).max() < 25
