"""The training script runs in small, learns something, and its families are what they claim."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from infoplane.estimators import ksg
from infoplane.estimators.mutual_information.supervised.checkpoint import PATH, read

sys.path.insert(0, str(Path(__file__).parents[4] / "scripts"))

import train_supervised_mi as script
from supervised_mi.datasets import draw, exchanged
from supervised_mi.families import TRAINED, UNSEEN, Family, student_excess


def test_quick_training_improves_the_loss_and_writes_what_it_says(tmp_path: Path) -> None:
    shipped = PATH.read_bytes()
    weights, page = tmp_path / "weights.npz", tmp_path / "page.md"
    trained = script.main(
        ["--quick", "--data", str(tmp_path), "--checkpoint", str(weights), "--page", str(page)]
    )
    assert trained.losses[-1] < 0.9 * trained.losses[0]
    with weights.open("rb") as file:
        assert read(file).metadata["splits"]["training"] == [0, 8]
    text = page.read_text()
    assert text.count("| **all** |") == 5
    assert all(name in text for name in (*TRAINED, *UNSEEN))
    assert "nan" not in text
    assert PATH.read_bytes() == shipped


def test_quick_never_writes_over_the_shipped_files() -> None:
    with pytest.raises(SystemExit):
        script.main(["--quick"])


@pytest.mark.parametrize("name", [*TRAINED, *UNSEEN])
@pytest.mark.parametrize("nats", [0.3, 1.5])
def test_truths_agree_with_nearest_neighbours_in_low_dimension(name: str, nats: float) -> None:
    family: Family = {**TRAINED, **UNSEEN}[name]
    rng = np.random.default_rng(7)
    width = 2 if name == "swiss roll" else 1
    drawn = [family(rng, 1500, width, 1, nats) for _ in range(3)]
    sides = [torch.from_numpy(np.stack([(z - z.mean(0)) / z.std(0) for z in side]))
             for side in list(zip(*drawn, strict=True))[:2]]  # fmt: skip
    truths = torch.tensor([truth for _, _, truth in drawn], dtype=torch.float64)
    assert (ksg(*sides) - truths).mean().abs() < 0.1


@pytest.mark.parametrize(
    ("d", "freedom", "nats"),
    [
        (1, 1, 0.2242),
        (2, 1, 0.4319),
        (2, 2, 0.1931),
        (3, 2, 0.2909),
        (5, 2, 0.4482),
        (5, 3, 0.2985),
    ],
)
def test_the_shared_scale_of_student_vectors(d: int, freedom: int, nats: float) -> None:
    """Published truths of uncorrelated Student vectors."""
    assert student_excess(d, d, freedom) == pytest.approx(nats, abs=5e-5)


def test_reordered_cells_of_a_column_lose_nothing_and_no_rank_correlation_stays() -> None:
    rng = np.random.default_rng(5)
    rho = (1.0 - np.exp(-2.0)) ** 0.5
    x, noise = rng.normal(size=(2, 3, 1500, 1))
    y = rho * x + (1.0 - rho**2) ** 0.5 * noise
    sides = [torch.from_numpy(np.stack([exchanged(rng, item) for item in side])) for side in (x, y)]
    assert float(ksg(*sides).mean()) == pytest.approx(1.0, abs=0.12)
    assert any(abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) < 0.5 for a, b in zip(*sides, strict=True))


def test_a_seed_gives_the_same_sets_and_some_share_nothing() -> None:
    first, again = draw(3, TRAINED), draw(3, TRAINED)
    assert torch.equal(first.x, again.x)
    assert first.truth == again.truth
    truths = [truth for seed in range(12) for truth in draw(seed, TRAINED).truth]
    assert 0.05 < sum(truth == 0.0 for truth in truths) / len(truths) < 0.4
