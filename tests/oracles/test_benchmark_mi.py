"""Our KSG is benchmark-mi's on the same arrays: Euclidean norms, one k, no standardisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracle_environment import run_oracle

from infoplane.estimators import ksg

pytestmark = pytest.mark.oracle

REQUIREMENTS = ["benchmark-mi==0.1.3", "jax==0.4.26", "jaxlib==0.4.26"]


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Return arrays and k by name; all share information, because the package clips at 0."""
    generator = np.random.default_rng(11)
    found = {}
    for dx, dy, n, k in (
        (1, 1, 500, 3), (1, 1, 1500, 5), (2, 3, 700, 1), (5, 5, 1024, 10), (64, 64, 1024, 3),
    ):  # fmt: skip
        shared = generator.normal(size=(n, 1))
        x = shared + 0.5 * generator.normal(size=(n, dx))
        y = shared + 0.5 * generator.normal(size=(n, dy))
        found[f"normal_{dx}_{dy}_{n}_{k}"] = (x, y, k)
        found[f"heavy_{dx}_{dy}_{n}_{k}"] = (np.sinh(2.0 * x), y**3, k)
    return found


def test_ksg_equals_benchmark_mi() -> None:
    given = pairs()
    arrays: dict[str, object] = {"names": np.array(list(given))}
    for name, (x, y, k) in given.items():
        arrays |= {f"{name}_x": x, f"{name}_y": y, f"{name}_k": k}
    oracle = run_oracle("benchmark_mi", REQUIREMENTS, arrays)
    for name, (x, y, k) in given.items():
        ours = float(ksg(torch.from_numpy(x).unsqueeze(0), torch.from_numpy(y).unsqueeze(0), k=k))
        assert float(oracle[name]) > 0.01, name
        assert ours == pytest.approx(float(oracle[name]), rel=1e-5), name
