"""Token entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infoplane.estimators import token_entropy


def test_mean_band_and_ceiling() -> None:
    estimate = token_entropy(np.array([1.0, 2.0, 3.0, np.nan]), vocabulary=50)
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.band == pytest.approx((2 - 1.96 / math.sqrt(3), 2 + 1.96 / math.sqrt(3)))
    assert estimate.ceiling == pytest.approx(math.log(50))
    assert token_entropy(np.full(4, math.log(50)), vocabulary=50).saturated


def test_degenerate_rows() -> None:
    assert token_entropy(np.zeros(0)).undefined == "n"
    assert token_entropy(np.array([np.nan])).undefined == "nan"
    single = token_entropy(np.array([0.5]))
    assert (single.value, single.band) == (0.5, None)
