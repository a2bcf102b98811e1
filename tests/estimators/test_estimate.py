"""The estimate record."""

from __future__ import annotations

import math

import pytest

from infoplane.estimators import Estimate


def test_missing_estimates_say_why() -> None:
    found = Estimate.missing("n", unit="nats", n=3, estimator="e", version=2, parameters={"k": 1})
    assert math.isnan(found.value)
    assert not found.defined
    assert (found.undefined, found.parameters) == ("n", {"k": 1})
    with pytest.raises(ValueError, match="reason"):
        Estimate.missing("", unit="nats", n=3, estimator="e", version=2)
