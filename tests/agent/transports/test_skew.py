"""The clock against the broker's: what is estimated, from what, and when nothing is."""

from __future__ import annotations

import logging

import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.transports.skew import FEWEST, NAME, ClockSkew


def deliver(skew: ClockSkew, ahead_s: float, count: int = FEWEST, at: float = 1e9) -> None:
    for number in range(count):
        sent = at + number
        skew.note(int(sent * 1000) - 3, int((sent + 0.02 + ahead_s) * 1000), sent, sent + 0.04)


def test_the_estimate_is_the_median_distance_to_the_middle() -> None:
    skew = ClockSkew(Counters())
    deliver(skew, 0.25, FEWEST - 1)
    assert skew.seconds() is None
    deliver(skew, 90.0, 1)  # one stray delivery
    assert skew.seconds() == pytest.approx(0.25, abs=0.002)


def test_only_the_last_deliveries_count() -> None:
    skew = ClockSkew(Counters())
    deliver(skew, 5.0, 64)
    deliver(skew, -0.5, 64)
    assert skew.seconds() == pytest.approx(-0.5, abs=0.002)


def test_a_topic_that_keeps_the_producers_time_gives_no_estimate() -> None:
    counters = Counters()
    skew = ClockSkew(counters)
    for number in range(100):
        skew.note(1000 + number, 1000 + number, 1.0, 2.0)
        skew.note(1000 + number, None, 1.0, 2.0)
        skew.note(1000 + number, -1, 1.0, 2.0)
    skew.publish()
    assert skew.seconds() is None
    assert counters.snapshot() == {}


def test_the_counters_total_is_the_latest_estimate_and_a_large_one_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counters = Counters()
    skew = ClockSkew(counters)
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        deliver(skew, 3.0, 64)
        skew.publish()
        assert counters.total(NAME) == pytest.approx(3.0, abs=0.002)
        deliver(skew, -2.0, 64)
        skew.publish()
    assert counters.total(NAME) == pytest.approx(-2.0, abs=0.002)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "infoplane: this node's clock is 3.0 s behind the broker's"
    ]
