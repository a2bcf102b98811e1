"""Nulls, bands and flags of a batch."""

from __future__ import annotations

import math

import torch

from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    estimates_of_terms,
    nonfinite_items,
    null_of,
)


def test_null_needs_draws() -> None:
    assert null_of([]) == (None, None)
    assert null_of([1.0]) == (1.0, None)
    assert null_of([1.0, 3.0]) == (2.0, math.sqrt(2.0))


def test_estimates_carry_null_band_and_saturation() -> None:
    terms = torch.stack([torch.tensor([[0.5, 1.0, 1.5, 1.0]] * 3).double()] * 2)
    first, second = estimates_of_terms(
        [terms],
        n=4,
        reasons=["", "nan"],
        ceilings=[1.1, 1.1],
        estimator="e",
        version=1,
        parameters={"k": 3},
    )
    assert (first.value, first.null_mean, first.null_sd, first.saturated) == (1.0, 1.0, 0.0, True)
    assert first.band is not None
    assert first.band[0] < 1.0 < first.band[1]
    assert second.undefined == "nan"
    assert math.isnan(second.value)


def test_flags() -> None:
    x = torch.ones(3, 4, 2)
    x[1, 0, 0], x[2, 1, 1] = 2.0, math.inf
    assert constant_items(x) == [True, False, False]
    assert nonfinite_items(x, x) == [False, False, True]
