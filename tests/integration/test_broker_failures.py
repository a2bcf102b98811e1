"""A failing broker costs the training process bounded time and memory, and nothing else.

The short version of benchmarks/agent_transport/broker_failures.py: a process of its own per scenario,
a real broker, and bounds that a busy machine keeps.
"""

from __future__ import annotations

import pytest
from scenarios import FAULTS, INFLIGHT_BYTES, QUEUE_BYTES, TIMES, Outcome, play

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("broker")]
STEPS = 120
EXIT_BOUND_S = 3.0 + 10.0  # of the publisher, and for a busy machine to end a process


def check(outcome: Outcome) -> None:
    assert outcome.exit_code == 0, outcome.stderr
    assert "Traceback" not in outcome.stderr
    report = outcome.report
    assert report["released"] == STEPS
    assert report["cpu_ms_max"] <= 5.0
    assert report["close_seconds"] <= 3.0 + 2.0
    assert outcome.exit_seconds <= EXIT_BOUND_S
    assert report["rss_growth"] <= QUEUE_BYTES + INFLIGHT_BYTES + (32 << 20)
    # Every record and heartbeat that was taken ends as delivered or as a counted drop.
    taken = outcome.count("records_sent") + refused(outcome)
    assert outcome.count("records_delivered") + outcome.count("records_dropped") == taken
    assert taken > STEPS


def refused(outcome: Outcome) -> float:
    counters = outcome.report["counters"].items()
    return sum(
        n for key, n in counters if key.startswith("records_dropped/") and "delivery" not in key
    )


def test_control_delivers_everything() -> None:
    outcome = play("none", "-", steps=STEPS, rate=100)
    check(outcome)
    assert outcome.count("records_dropped") == 0
    assert outcome.count("records_delivered") > STEPS
    assert outcome.stderr == ""


@pytest.mark.parametrize("when", TIMES)
@pytest.mark.parametrize("fault", FAULTS)
def test_training_goes_on_and_drops_are_counted(fault: str, when: str) -> None:
    outcome = play(fault, when, steps=STEPS, rate=100)
    check(outcome)
    if when == "before":
        assert outcome.count("records_delivered") == 0
        assert outcome.count("records_dropped") > STEPS
    elif when == "during":
        # The outage ends in time for what waited to be delivered.
        assert outcome.count("records_delivered") > STEPS / 2
    else:
        assert outcome.count("records_delivered") > STEPS / 2
        assert outcome.report["released"] == STEPS
