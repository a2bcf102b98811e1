"""Ranks as threads over one store: they begin control at the same step, or none does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch.distributed as dist

from infoplane.agent.control import agreement
from infoplane.agent.control.agreement import Agreement, Answer
from infoplane.agent.control.ballot import GO, NO, Ballot


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MARGIN_S", 0.05)


class Ranks:
    """Simulated ranks; each runs a loop of steps of its own."""

    def __init__(self, marks: list[str | None], **options: Any) -> None:
        self.store = dist.HashStore()
        self.began: dict[int, int] = {}
        self.ended: dict[int, str] = {}
        self.world = len(marks)
        keywords: dict[str, Any] = {"timeout_s": 2.0, "wait_s": 1.0} | options
        self.members = {
            rank: Agreement(Ballot(self.store, "p", mark), rank, self.world, **keywords)
            for rank, mark in enumerate(marks)
            if mark is not None
        }

    def run(self, steps: int = 120, pause: Callable[[int, int], float] | None = None) -> None:
        threads = [
            threading.Thread(target=self._loop, args=(rank, steps, pause)) for rank in self.members
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _loop(self, rank: int, steps: int, pause: Callable[[int, int], float] | None) -> None:
        member = self.members[rank]
        member.start()
        for step in range(steps):
            time.sleep(pause(rank, step) if pause else 0.01)
            answer = member.at(step)
            if answer is Answer.BEGIN:
                self.began[rank] = step
                break
            if answer is Answer.OFF:
                self.ended[rank] = member.refused
                break
        member._thread.join(5)


@pytest.fixture
def make_ranks() -> Iterator[Callable[..., Ranks]]:
    made: list[Ranks] = []

    def make(*marks: str | None, **options: Any) -> Ranks:
        made.append(Ranks(list(marks), **options))
        return made[-1]

    yield make
    for ranks in made:
        for member in ranks.members.values():
            member.stop("the test is over")
            assert not member._thread.is_alive()


def test_ranks_alike_begin_at_the_same_step(make_ranks: Callable[..., Ranks]) -> None:
    ranks = make_ranks("a", "a", "a")
    ranks.run()
    assert len(ranks.began) == 3
    assert len(set(ranks.began.values())) == 1
    assert ranks.began[0] >= agreement.MARGIN_STEPS


def test_ranks_that_step_apart_begin_at_the_same_step_too(make_ranks: Callable[..., Ranks]) -> None:
    """Rank 1 is a few steps ahead: it misses early proposals, and a later one suits all."""
    ranks = make_ranks("a", "a", wait_s=3.0)
    ranks.run(600, lambda rank, step: 0.002 if rank else 0.004)
    assert set(ranks.began) in ({0, 1}, set())
    assert len(set(ranks.began.values())) <= 1


@pytest.mark.parametrize(
    ("marks", "word"),
    [
        (("a", "b", "a"), "differ"),
        (("a", "", "a"), "off on 1 of 3 ranks"),
        (("a", None, "a"), "only 2 of 3 ranks answered"),
    ],
)
def test_any_difference_refuses_control_on_all(
    make_ranks: Callable[..., Ranks],
    caplog: pytest.LogCaptureFixture,
    marks: tuple[str | None, ...],
    word: str,
) -> None:
    ranks = make_ranks(*marks, timeout_s=0.5)
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        ranks.run()
    on = [rank for rank, mark in enumerate(marks) if mark]
    assert ranks.began == {}
    assert all(word in ranks.ended[rank] for rank in on)
    # One line a rank, with control on or off.
    assert len(caplog.records) == len([mark for mark in marks if mark is not None])


def test_an_obstacle_on_one_rank_is_told_to_all(
    make_ranks: Callable[..., Ranks], caplog: pytest.LogCaptureFixture
) -> None:
    ranks = make_ranks("a", "a")
    ranks.members[0]._obstacle = "no key"
    ranks.run()
    assert ranks.ended == {0: "rank 0: no key", 1: "rank 0: no key"}
    assert caplog.text.count("rank 0: no key") == 2


def test_all_off_says_nothing_and_ends(
    make_ranks: Callable[..., Ranks], caplog: pytest.LogCaptureFixture
) -> None:
    ranks = make_ranks("", "", timeout_s=60)
    start = time.monotonic()
    ranks.run(3)
    assert time.monotonic() - start < 30  # nobody waited for the time-out
    assert caplog.records == []
    assert dist.HashStore.num_keys(ranks.store) <= 3


def test_a_rank_that_leaves_before_the_start_is_not_waited_for(
    make_ranks: Callable[..., Ranks],
) -> None:
    ranks = make_ranks("a", "a", wait_s=60.0)
    for member in ranks.members.values():
        member.start()
        for step in range(5):
            member.at(step)
    while not all(
        member._turn and member._turn.known.is_set() for member in ranks.members.values()
    ):
        time.sleep(0.01)
    ranks.members[1].stop("rank 1 detached")
    start = time.monotonic()
    assert ranks.members[0].at(10**9) is Answer.OFF
    assert ranks.members[0].refused == "rank 1 detached"
    assert time.monotonic() - start < 30


def test_a_rank_without_an_answer_decides_for_all(make_ranks: Callable[..., Ranks]) -> None:
    """Rank 0 voted and is silent since: rank 1 waits for its time, then nobody begins."""
    ranks = make_ranks("a", "a", wait_s=0.2)
    member, ballot = ranks.members[1], Ballot(ranks.store, "p", "a")
    ballot.announce(is_on=True)
    ballot.propose(0, 3)
    member.start()
    while member._turn is None:
        time.sleep(0.01)
    start = time.monotonic()
    assert member.at(3) is Answer.WAIT
    assert time.monotonic() - start > 0.15
    assert ballot.decide(0, GO) == NO


def test_a_store_that_fails_refuses_control(
    make_ranks: Callable[..., Ranks], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def add(self, key: str, amount: int) -> int:
            raise RuntimeError("connection reset")

    member = Agreement(Ballot(Broken(), "p", "a"), 0, 2, timeout_s=1, wait_s=1)
    member.start()
    member._thread.join(5)
    assert member.at(0) is Answer.OFF
    assert "the rendezvous store failed" in caplog.text
