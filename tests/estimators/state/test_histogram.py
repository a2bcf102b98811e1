"""Log-bucket histogram."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.state import NONFINITE_INDEX, LogBuckets, LogHistogram


@pytest.mark.parametrize("signed", [True, False])
def test_every_value_lies_within_its_bucket(signed: bool) -> None:
    generator = np.random.default_rng(0)
    x = generator.choice([-1.0, 1.0], 5000) * np.exp2(generator.uniform(-23.9, 23.9, 5000))
    x = x if signed else np.abs(x)
    layout = LogBuckets(signed)
    index, edges = layout.bucket_index(x), layout.edges()
    assert edges.size == layout.size + 1
    assert bool((np.diff(edges) > 0).all())
    assert bool((edges[index] <= x * (1 + np.sign(x) * 1e-12)).all())
    assert bool((x * (1 - np.sign(x) * 1e-12) <= edges[index + 1]).all())


def test_the_documented_formula() -> None:
    signed, unsigned = LogBuckets(True), LogBuckets(False)
    x = np.array([0.0, 1.0, -1.0, 2.0, 2.0**-25, 2.0**-24, 2.0**40, -(2.0**40), np.nan, -np.inf])
    bad = NONFINITE_INDEX
    expected = [384, 577, 191, 585, 384, 385, 768, 0, bad, bad]
    assert signed.bucket_index(x).tolist() == expected
    assert unsigned.bucket_index(x[:2]).tolist() == [0, 193]
    assert (signed.size, unsigned.size) == (769, 385)


def test_quantiles_are_within_a_bucket() -> None:
    x = np.random.default_rng(1).normal(size=20_000)
    found = LogHistogram.of_values(x)
    for q in (0.01, 0.25, 0.75, 0.99):
        assert found.quantile(q) == pytest.approx(float(np.quantile(x, q)), rel=0.1)
    norms = LogHistogram.of_values(np.abs(x), signed=False)
    assert norms.quantile(0.5) == pytest.approx(float(np.median(np.abs(x))), rel=0.1)
    assert LogHistogram.of_values(np.zeros(3)).quantile(0.5) == 0.0
    assert np.isnan(LogHistogram.empty().quantile(0.5))


def test_counts_and_refusals() -> None:
    found = LogHistogram.of_values(np.array([[0.0, 1.0], [np.nan, 1e-30]]))
    assert (found.total, found.zero_count, found.nonfinite) == (3, 2, 1)
    with pytest.raises(ValueError, match="signed"):
        found.merge(LogHistogram.empty(signed=False))
    with pytest.raises(ValueError, match="counts"):
        LogHistogram(np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="q: expected"):
        found.quantile(2.0)
