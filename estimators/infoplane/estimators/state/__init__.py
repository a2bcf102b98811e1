"""Mergeable states and row samples: what estimators are computed from.

Numpy only, so that a training process can import it without anything else.
"""

from infoplane.estimators.state.edges import EdgeMultiset
from infoplane.estimators.state.histogram import (
    BUCKETS_PER_OCTAVE,
    BUCKETS_PER_SIGN,
    MAX_EXPONENT,
    MIN_EXPONENT,
    NONFINITE_INDEX,
    LogBuckets,
    LogHistogram,
)
from infoplane.estimators.state.moments import Moments
from infoplane.estimators.state.precision import EdgeNoise, RewardPrecision
from infoplane.estimators.state.rows import RowSample

__all__ = [
    "BUCKETS_PER_OCTAVE",
    "BUCKETS_PER_SIGN",
    "MAX_EXPONENT",
    "MIN_EXPONENT",
    "NONFINITE_INDEX",
    "EdgeMultiset",
    "EdgeNoise",
    "LogBuckets",
    "LogHistogram",
    "Moments",
    "RewardPrecision",
    "RowSample",
]
