"""What is refused, and when all ranks apply what is not."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.directives import (
    REFUSALS,
    Desk,
    Expected,
    RefusedDirectiveError,
    read_directive,
    taps_to_leave_out,
)
from infoplane.agent.directives.directive import MAX_REFERENCE_ROWS
from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb

SAMPLING = pb.Sampling(projection_version=1, projection_seed=5, projection_dim=8)
EXPECTED = Expected(SAMPLING, "embed")
ROWS = np.arange(24, dtype=np.float16).reshape(3, 8)


def message(rows: Any = ROWS, tap: str = "embed", seed: int = 5, **fields: Any) -> pb.AgentConfig:
    sampling = pb.Sampling(projection_version=1, projection_seed=seed, projection_dim=8, key_seed=9)
    reference = pb.Reference(sampling=sampling, scoring_tap=tap, width=32, rows=to_tensor(rows))
    return pb.AgentConfig(**{"run": "r", "version": 4, "reference": reference, **fields})


def test_a_directive_is_read_whole() -> None:
    raw = encode(message(from_step=300, taps_off=["03/act"]))
    found = read_directive(raw, EXPECTED)
    assert (found.version, found.from_step, found.taps_off) == (4, 300, frozenset(["03/act"]))
    assert found.reference is not None
    assert (found.reference.version, found.reference.width) == (4, 32)
    np.testing.assert_array_equal(found.reference.rows, ROWS.astype(np.float32))


WRONG = ROWS.copy()
WRONG[1, 2] = np.nan
REFUSED = [
    ("malformed", b"nonsense"),
    ("malformed", encode(pb.AuditEntry(run="r"))),
    ("oversize", bytes(3 << 20)),
    ("oversize", encode(message(np.zeros((MAX_REFERENCE_ROWS + 1, 8), np.float16)))),
    ("oversize", encode(message(taps_off=["x"] * 2000))),
    ("version", encode(message(version=0))),
    ("identity", encode(message(seed=6))),
    ("scoring_tap", encode(message(tap="00/block"))),
    ("scoring_tap", encode(message(taps_off=["embed"]))),
    ("shape", encode(message(np.zeros((3, 7), np.float16)))),
    ("shape", encode(message(np.zeros((0, 8), np.float16)))),
    ("shape", encode(message(np.zeros(8, np.float16)))),
    ("shape", encode(message(np.zeros((3, 8), np.float32)))),
    ("nonfinite", encode(message(WRONG))),
]


@pytest.mark.parametrize(("reason", "raw"), REFUSED)
def test_what_does_not_fit_is_refused_with_its_reason(reason: str, raw: bytes) -> None:
    with pytest.raises(RefusedDirectiveError) as caught:
        read_directive(raw, EXPECTED)
    assert caught.value.reason == reason


def test_every_reason_is_explained() -> None:
    assert {reason for reason, _ in REFUSED} == set(REFUSALS)


def test_where_nothing_is_scored_the_choice_of_taps_holds_all_the_same() -> None:
    found = read_directive(encode(message(taps_off=["03/act"])), Expected(SAMPLING, ""))
    assert found.reference is None
    assert found.taps_off == frozenset(["03/act"])


def test_refusals_are_counted_and_logged_once_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    desk = Desk(EXPECTED, 8, counters)
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        assert all(desk.deliver(b"nonsense") for _ in range(3))
        desk.deliver(encode(message(seed=6)))
    assert desk.latest is None
    assert counters.snapshot() == {
        ("config_refused", "identity"): 1,
        ("config_refused", "malformed"): 3,
    }
    assert len(caplog.records) == 2


def applied(desk: Desk, first: int, last: int) -> dict[int, int]:
    found = {step: desk.enter(step) for step in range(first, last)}
    return {step: directive.version for step, directive in found.items() if directive is not None}


def test_ranks_apply_it_at_the_first_window_from_its_step_on_whenever_it_came_before() -> None:
    for arrival in range(20, 48):
        counters = Counters()
        desk = Desk(EXPECTED, 16, counters)
        assert applied(desk, 0, arrival) == {}
        desk.deliver(encode(message(from_step=40)))
        assert applied(desk, arrival, 200) == {48: 4}
        assert counters.snapshot() == {("config_applied", ""): 1}


def test_a_rank_that_gets_it_late_applies_it_at_its_next_window_and_says_so() -> None:
    counters = Counters()
    desk = Desk(EXPECTED, 16, counters)
    applied(desk, 0, 50)
    desk.deliver(encode(message(from_step=40)))
    assert applied(desk, 50, 200) == {64: 4}
    assert counters.total("config_late") == 1


def test_a_run_that_begins_after_the_step_is_not_late() -> None:
    for first, expected in ((0, 0), (128, 128), (130, 144)):
        counters = Counters()
        desk = Desk(EXPECTED, 16, counters)
        desk.deliver(encode(message(from_step=0)))
        assert applied(desk, first, first + 64) == {expected: 4}
        assert counters.total("config_late") == 0


def test_a_window_whose_first_step_was_skipped_still_begins() -> None:
    desk = Desk(EXPECTED, 16, Counters())
    applied(desk, 0, 10)
    desk.deliver(encode(message(from_step=0)))
    assert applied(desk, 35, 40) == {35: 4}


def test_the_greatest_version_holds_whatever_the_order() -> None:
    desk = Desk(EXPECTED, 16, Counters())
    for version in (2, 7, 3):
        desk.deliver(encode(message(version=version)))
    assert applied(desk, 0, 40) == {0: 7}
    desk.deliver(encode(message(version=8)))
    assert applied(desk, 40, 80) == {48: 8}


def test_a_unit_keeps_its_first_tap() -> None:
    units = [("embed", "00/block", "00/act"), ("04/block", "04/act"), ()]
    off = frozenset(["00/act", "04/block", "04/act", "unknown"])
    assert taps_to_leave_out(off, units) == {"00/act", "04/act", "unknown"}
    assert taps_to_leave_out(frozenset(), units) == frozenset()
