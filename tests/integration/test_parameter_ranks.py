"""Probes that read parameters and gradients, on two ranks under ZeRO 0, 1 and 3, and on two stages of a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probe_job import (
    BATCH,
    INTERVALS,
    LENGTH,
    PARAMETER_STEPS,
    PIPE_MICROS,
    RANKS,
    STAGES,
    VOCABULARY,
    WIDTH,
)
from probe_reading import merged, records, run_scenario

from infoplane.agent.projection import projection_matrix

pytestmark = pytest.mark.integration
LOOKS = (0, 2, 4)  # once a window of two sampled steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_scenario("parameters", tmp_path_factory.mktemp("parameters"))


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_scenario("pipeline", tmp_path_factory.mktemp("pipeline"))


def known(folder: Path, stage: int) -> dict[str, Any]:
    return dict(np.load(folder / f"zero-{stage}-0.npz"))


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_bit_equal_with_and_without_the_probes(folder: Path, stage: int) -> None:
    plain = dict(np.load(folder / f"plain-{stage}-0.npz"))
    for name, values in known(folder, stage).items():
        np.testing.assert_array_equal(values, plain[name], err_msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_the_head_adds_up_to_a_direct_count(folder: Path, stage: int) -> None:
    found = merged(folder, f"zero-{stage}", "head")
    assert tuple(sorted(found)) == LOOKS
    # 61 x 24 elements on two ranks: ZeRO-3 cuts row 30 into two.
    kept = [row for row in range(VOCABULARY) if stage != 3 or row != 30]
    for step in LOOKS:
        tap = found[step]["head"]
        w = known(folder, stage)["head"][step][kept].astype(np.float64)
        y = w @ projection_matrix(WIDTH, 64, 0).astype(np.float64)
        norm = (w**2).sum(1)
        assert (tap["rows"], tap["population"]) == ([len(kept)], [VOCABULARY])
        for name, value in {
            "sum_square": [norm.sum()],
            "sum_fourth": [(norm**2).sum()],
            "maximum": [norm.max() ** 0.5],
            "column_total": w.sum(0),
            "total": y.sum(0),
            "outer": (y.T @ y)[np.triu_indices(64)],
        }.items():
            np.testing.assert_allclose(tap[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_weights_and_updates_add_up_to_a_direct_count(folder: Path, stage: int) -> None:
    found = merged(folder, f"zero-{stage}", "weights")
    assert tuple(sorted(found)) == LOOKS
    for layer in range(3):
        w = known(folder, stage)[f"block{layer}"].astype(np.float64)
        for step in LOOKS:
            tap = found[step][f"0{layer}/weights"]
            assert tap["elements"] == tap["population"] == [w.shape[1]]
            np.testing.assert_allclose(tap["sum_square"], [w[step] @ w[step]], rtol=1e-6)
            if step == 0:
                assert "delta_square" not in tap
                continue
            delta = w[step] - w[step - 2]
            np.testing.assert_allclose(tap["delta_square"], [delta @ delta], rtol=1e-6)
            np.testing.assert_allclose(tap["inner"], [w[step] @ delta], rtol=1e-6, atol=1e-9)
            assert tap["delta_square"] > 0
            assert (tap["steps_smallest"], tap["steps_largest"]) == ([2], [2])


def test_sketches_of_updates_are_the_same_however_parameters_lie(folder: Path) -> None:
    taps = [merged(folder, f"zero-{stage}", "weights")[4]["01/weights"] for stage in STAGES]
    for tap in taps[1:]:
        np.testing.assert_allclose(tap["sketch"], taps[0]["sketch"], atol=1e-5)


def test_gradients_are_the_same_however_parameters_lie(folder: Path) -> None:
    found = [merged(folder, f"zero-{stage}", "gradients") for stage in STAGES]
    for step in range(PARAMETER_STEPS):
        for layer in range(3):
            taps = [stage[step][f"0{layer}/gradient"] for stage in found]
            assert all(tap["n"] == [RANKS * BATCH * LENGTH] for tap in taps)
            assert taps[0]["sum_square"] > 0
            for tap in taps[1:]:
                np.testing.assert_allclose(tap["sum_square"], taps[0]["sum_square"], rtol=1e-3)


def test_activations_of_one_micro_batch_are_counted(folder: Path) -> None:
    for stage in STAGES:
        taps = merged(folder, f"zero-{stage}", "activation")[3]
        assert taps["02/activation"]["n"] == [RANKS * BATCH * LENGTH * 2 * WIDTH]


@pytest.mark.parametrize("stage", STAGES)
def test_deepspeeds_events_arrive_from_rank_0_and_its_monitor_is_restored(
    folder: Path, stage: int
) -> None:
    rates = [
        [
            (value.step, value.value)
            for record in records(folder / f"zero-{stage}-{rank}.log")
            for value in record.scalars.values
            if value.name == "Train/Samples/lr"
        ]
        for rank in range(RANKS)
    ]
    assert rates == [[(step, 0.5) for step in range(PARAMETER_STEPS)], []]
    assert known(folder, stage)["restored"].all()


@pytest.mark.parametrize("interval", INTERVALS[1:])
def test_pipelines_count_gradients_of_their_first_micro_batch(stages: Path, interval: int) -> None:
    """Recomputed one by one (1) and in chains of blocks (2), with other micro-batches in between (1F1B)."""
    plain, found = (merged(stages, f"pipe-{i}", "gradients") for i in (0, interval))
    assert sorted(found) == [0, 1]
    for step, taps in found.items():
        assert sorted(taps) == [f"0{layer}/gradient" for layer in range(4)]
        for name, tap in taps.items():
            assert tap["n"] == [BATCH * LENGTH]
            for field in ("sum_square", "maximum"):
                np.testing.assert_allclose(tap[field], plain[step][name][field], rtol=1e-4)
    calls = {int(np.load(stages / f"pipe-{interval}-{rank}.npz")["calls"][0]) for rank in range(2)}
    # Stage 0 has three blocks after the embedding, stage 1 one: a chain of two has room on stage 0 only.
    assert max(calls) == 2 * 2 * PIPE_MICROS, "nothing was recomputed"


def test_pipelines_have_their_head_on_the_last_stage(stages: Path) -> None:
    found = merged(stages, "pipe-0", "head")
    assert found[0]["head"]["rows"] == [VOCABULARY]
    names = {
        name
        for rank in range(RANKS)
        for r in records(stages / f"pipe-0-{rank}.log")
        for name in r.units
    }
    assert {name for name in names if name.startswith("head")} == {"head/03-03"}
