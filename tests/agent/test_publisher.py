"""The publisher: budgets, order, release, fork, close, and everything that may break inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.publisher import THREAD_NAME, Publisher
from infoplane.agent.transports import MemoryTransport, Outgoing, Transport

WAIT_S = 20.0


class Box:
    """A parcel that remembers what was done to it, and by whom."""

    def __init__(self, name: str = "x", nbytes: int = 100, messages: int = 1) -> None:
        self.name = name
        self.nbytes = nbytes
        self.messages = messages
        self.released: list[str] = []
        self.encoded: list[str] = []

    def encode(self) -> Sequence[Outgoing]:
        self.encoded.append(threading.current_thread().name)
        return [message(f"{self.name}.{i}") for i in range(self.messages)]

    def release(self) -> None:
        self.released.append(threading.current_thread().name)


class BrokenBox(Box):
    def encode(self) -> Sequence[Outgoing]:
        raise ValueError("cannot be encoded")


class GateBox(Box):
    """Holds the publisher thread inside `encode` until told to go on."""

    def __init__(self, nbytes: int = 100) -> None:
        super().__init__("gate", nbytes)
        self.entered, self.go = threading.Event(), threading.Event()

    def encode(self) -> Sequence[Outgoing]:
        self.entered.set()
        self.go.wait(WAIT_S)
        return super().encode()


def message(name: str) -> Outgoing:
    return Outgoing("t", b"k", name.encode(), 1)


def nothing() -> Sequence[Outgoing]:
    return ()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


class Rig:
    """A publisher on a memory transport."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.transports: list[MemoryTransport] = []
        self.publishers: list[Publisher] = []

    def factory(self, counters: Counters) -> Transport:
        self.transports.append(MemoryTransport(counters))
        return self.transports[-1]

    def publisher(self, factory: object = None, **settings: object) -> Publisher:
        settings = {"beat": nothing, "farewell": nothing, **settings}
        publisher = Publisher(factory or self.factory, self.counters, **settings)  # type: ignore[arg-type]
        self.publishers.append(publisher)
        publisher.start()
        return publisher

    def values(self) -> list[bytes]:
        return [m.value for transport in self.transports for m in transport.messages]

    def dropped(self) -> dict[str, float]:
        found = self.counters.snapshot()
        return {reason: n for (name, reason), n in found.items() if name == "records_dropped"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for publisher in rig.publishers:
        publisher.close(5.0)


def test_parcels_arrive_in_order_and_are_released_once_by_the_publisher_thread(rig: Rig) -> None:
    publisher = rig.publisher()
    boxes = [Box(str(i), messages=2) for i in range(50)]
    assert all(publisher.offer(box) for box in boxes)
    publisher.close()
    assert rig.values() == [f"{i}.{j}".encode() for i in range(50) for j in range(2)]
    assert {tuple(box.released) for box in boxes} == {(THREAD_NAME,)}
    assert {tuple(box.encoded) for box in boxes} == {(THREAD_NAME,)}
    assert rig.counters.snapshot()["records_sent", ""] == 100
    assert rig.dropped() == {}


def test_byte_budget_refuses_releases_and_counts(rig: Rig) -> None:
    publisher = rig.publisher(queue_bytes=1000)
    gate = GateBox(nbytes=400)
    assert publisher.offer(gate)
    assert gate.entered.wait(WAIT_S)
    fits, too_much = Box("fits", 600), Box("too much", 1)
    assert publisher.offer(fits)
    assert not publisher.offer(too_much)
    assert too_much.released == [threading.current_thread().name]
    assert too_much.encoded == []
    gate.go.set()
    eventually(lambda: bool(fits.released))
    eventually(lambda: publisher.offer(Box("again", 1000)))
    publisher.close()
    assert rig.values() == [b"gate.0", b"fits.0", b"again.0"]
    assert rig.dropped()["byte_budget"] >= 1


def test_queue_length_refuses_and_counts(rig: Rig) -> None:
    publisher = rig.publisher(queue_parcels=3)
    gate = GateBox()
    assert publisher.offer(gate)
    assert gate.entered.wait(WAIT_S)
    results = [publisher.offer(Box(str(i))) for i in range(5)]
    gate.go.set()
    publisher.close()
    assert results == [True, True, True, False, False]
    assert rig.dropped() == {"queue_full": 2}


def test_a_parcel_that_stands_for_several_records_counts_as_many(rig: Rig) -> None:
    publisher = rig.publisher(queue_bytes=10)
    box = Box(nbytes=11)
    box.records = 4  # type: ignore[attr-defined]
    assert not publisher.offer(box)
    assert rig.dropped() == {"byte_budget": 4}


def test_refused_messages_are_counted_and_the_thread_goes_on(rig: Rig) -> None:
    publisher = rig.publisher(
        lambda counters: (
            rig.transports.append(MemoryTransport(counters, capacity=2)) or rig.transports[-1]
        )
    )
    for i in range(5):
        publisher.offer(Box(str(i)))
    publisher.close()
    assert rig.values() == [b"0.0", b"1.0"]
    assert rig.dropped() == {"not_accepted": 3}


def test_a_transport_that_knows_better_says_why_it_refuses(rig: Rig) -> None:
    class Ring(MemoryTransport):
        refusal = "ring_full"

    publisher = rig.publisher(lambda counters: Ring(counters, capacity=0))
    publisher.offer(Box())
    publisher.close()
    assert rig.dropped() == {"ring_full": 1}


def test_a_broken_parcel_is_released_and_counted_and_the_next_one_passes(rig: Rig) -> None:
    publisher = rig.publisher()
    broken = BrokenBox()
    publisher.offer(broken)
    publisher.offer(Box("next"))
    publisher.close()
    assert broken.released == [THREAD_NAME]
    assert rig.values() == [b"next.0"]
    assert rig.dropped() == {"encode": 1}


def test_a_release_that_raises_is_counted_once_and_does_not_stop_anything(rig: Rig) -> None:
    class Sticky(Box):
        def release(self) -> None:
            super().release()
            raise RuntimeError("stuck")

    sticky = Sticky("sticky")
    publisher = rig.publisher()
    publisher.offer(sticky)
    publisher.offer(Box("next"))
    publisher.close()
    assert rig.values() == [b"sticky.0", b"next.0"]
    assert len(sticky.released) == 1
    assert rig.counters.snapshot()["release_errors", "RuntimeError"] == 1


def test_a_transport_that_raises_is_counted_as_a_drop(rig: Rig) -> None:
    class Raising(MemoryTransport):
        def send(self, message: Outgoing) -> bool:
            if message.value.startswith(b"bad"):
                raise OSError("no space")
            return super().send(message)

    publisher = rig.publisher(
        lambda counters: rig.transports.append(Raising(counters)) or rig.transports[-1]
    )
    for name in ("a", "bad", "b"):
        publisher.offer(Box(name))
    publisher.close()
    assert rig.values() == [b"a.0", b"b.0"]
    assert rig.dropped() == {"not_accepted": 1}
    assert rig.counters.snapshot()["transport_errors", "OSError"] == 1


def test_a_factory_that_fails_is_not_asked_for_every_message(rig: Rig) -> None:
    asked: list[str] = []

    def factory(_: Counters) -> Transport:
        asked.append(threading.current_thread().name)
        raise RuntimeError("no transport today")

    publisher = rig.publisher(factory)
    boxes = [Box(str(i)) for i in range(20)]
    for box in boxes:
        publisher.offer(box)
    publisher.close()
    assert asked == [THREAD_NAME]
    assert rig.dropped() == {"no_transport": 20}
    assert all(len(box.released) == 1 for box in boxes)


def test_the_transport_is_built_in_the_publisher_thread_and_closed(rig: Rig) -> None:
    names: list[str] = []

    def factory(counters: Counters) -> Transport:
        names.append(threading.current_thread().name)
        return rig.factory(counters)

    publisher = rig.publisher(factory)
    publisher.close()
    assert names == [THREAD_NAME]
    assert rig.transports[0].closed


def test_beats_come_at_once_and_again_and_the_farewell_comes_last(rig: Rig) -> None:
    publisher = rig.publisher(
        beat=lambda: [message("beat")], farewell=lambda: [message("bye")], heartbeat_s=0.02
    )
    eventually(lambda: rig.values().count(b"beat") >= 3)
    publisher.offer(Box("last"))
    publisher.close()
    assert rig.values()[-1] == b"bye"
    assert rig.values().count(b"bye") == 1
    assert b"last.0" in rig.values()


def test_a_broken_beat_is_counted_and_parcels_go_on(rig: Rig) -> None:
    def beat() -> Sequence[Outgoing]:
        raise KeyError("no state yet")

    publisher = rig.publisher(beat=beat, farewell=beat, heartbeat_s=0.01)
    eventually(lambda: rig.counters.total("beat_errors") >= 2)
    publisher.offer(Box("on"))
    publisher.close()
    assert rig.values() == [b"on.0"]


def test_heartbeats_into_a_refusing_transport_do_not_pile_up(rig: Rig) -> None:
    def factory(counters: Counters) -> Transport:
        transport = MemoryTransport(counters)
        transport.accepting = False
        return transport

    publisher = rig.publisher(factory, beat=lambda: [message("beat")], heartbeat_s=0.01)
    eventually(lambda: rig.dropped().get("not_accepted", 0) >= 5)
    assert len(publisher._outbox) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_thread_dies_offers_are_refused_and_everything_is_released(rig: Rig) -> None:
    class Deadly(Box):
        def encode(self) -> Sequence[Outgoing]:
            raise SystemExit("out of the thread")

    publisher = rig.publisher()
    gate, deadly, behind = GateBox(), Deadly(), Box("behind")
    for box in (gate, deadly, behind):
        assert publisher.offer(box)
    gate.go.set()
    eventually(lambda: not publisher.alive)
    eventually(lambda: bool(behind.released))
    late = Box("late")
    assert not publisher.offer(late)
    assert [len(box.released) for box in (gate, deadly, behind, late)] == [1, 1, 1, 1]
    assert rig.dropped()["dead"] >= 2
    publisher.close()


def test_close_is_bounded_when_the_thread_hangs_and_leaves_nothing_unreleased(rig: Rig) -> None:
    publisher = rig.publisher()
    gate = GateBox()
    queued = [Box(str(i)) for i in range(3)]
    publisher.offer(gate)
    assert gate.entered.wait(WAIT_S)
    for box in queued:
        publisher.offer(box)
    publisher.close(0.2)  # returns although the thread is held
    assert not gate.go.is_set()
    assert rig.counters.snapshot()["close_timeouts", ""] == 1
    assert all(len(box.released) == 1 for box in queued)
    assert rig.dropped() == {"closed": 3}
    gate.go.set()
    eventually(lambda: len(gate.released) == 1)


def test_close_is_idempotent_and_later_offers_are_refused(rig: Rig) -> None:
    publisher = rig.publisher(farewell=lambda: [message("bye")])
    publisher.close()
    publisher.close()
    late = Box("late")
    assert not publisher.offer(late)
    assert late.released
    assert rig.values() == [b"bye"]
    assert rig.dropped() == {"closed": 1}


def test_an_offer_before_start_is_refused() -> None:
    counters = Counters()
    publisher = Publisher(MemoryTransport, counters, beat=nothing, farewell=nothing)
    box = Box()
    assert not publisher.offer(box)
    assert len(box.released) == 1


def test_many_offering_threads_lose_nothing_and_count_exactly(rig: Rig) -> None:
    publisher = rig.publisher(queue_parcels=64)
    boxes = [[Box(f"{t}-{i}") for i in range(500)] for t in range(4)]

    def offer(mine: list[Box]) -> None:
        for box in mine:
            publisher.offer(box)

    threads = [threading.Thread(target=offer, args=(mine,)) for mine in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.close(WAIT_S)
    everything = [box for mine in boxes for box in mine]
    assert all(len(box.released) == 1 for box in everything)
    assert len(rig.values()) + sum(rig.dropped().values()) == len(everything)
    for t in range(4):
        arrived = [int(v.split(b"-")[1][:-2]) for v in rig.values() if v.startswith(b"%d-" % t)]
        assert arrived == sorted(arrived)


def test_the_cpu_time_of_the_thread_is_counted(rig: Rig) -> None:
    class Busy(Box):
        def encode(self) -> Sequence[Outgoing]:
            until = time.thread_time() + 0.05
            while time.thread_time() < until:
                pass
            return ()

    publisher = rig.publisher()
    publisher.offer(Busy())
    publisher.close()
    assert rig.counters.snapshot()["publisher_cpu_seconds", ""] >= 0.05


# ---------------------------------------------------------------- processes

PROGRAM = """
import atexit, os, sys, threading
from infoplane.agent.counters import Counters
from infoplane.agent.publisher import Publisher
from infoplane.agent.transports import FileTransport, Outgoing
from pathlib import Path

class Box:
    nbytes = 10
    released = 0
    def encode(self):
        return [Outgoing("t", b"k", str(os.getpid()).encode(), 1)]
    def release(self):
        Box.released += 1

counters = Counters()
publisher = Publisher(lambda c: FileTransport(Path(sys.argv[1]), c), counters,
                      beat=lambda: (), farewell=lambda: [Outgoing("t", b"k", b"bye", 1)])
publisher.start()
publisher.offer(Box())
"""


def run_program(path: object, body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + textwrap.dedent(body), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def logged(path: object) -> list[bytes]:
    from infoplane.wire.log import read_log

    return [entry.value for entry in read_log(str(path))]


def test_exit_without_close_still_delivers_and_says_goodbye(tmp_path: object) -> None:
    path = f"{tmp_path}/rank.iplog"
    done = run_program(path, "")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(logged(path)) == 2
    assert logged(path)[-1] == b"bye"


def test_an_error_in_training_keeps_its_exit_code(tmp_path: object) -> None:
    path = f"{tmp_path}/rank.iplog"
    done = run_program(path, "sys.exit(7)")
    assert done.returncode == 7
    assert logged(path)[-1] == b"bye"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_silent_and_exits_at_once_and_the_parent_goes_on(
    tmp_path: object,
) -> None:
    path = f"{tmp_path}/rank.iplog"
    body = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, on Python 3.12
    child = os.fork()
    if child == 0:
        before = Box.released
        accepted = publisher.offer(Box())
        fork_drops = counters.snapshot()["records_dropped", "fork"]
        publisher.close()
        # 42 only if refused, counted, and not released: the buffers are the parent's
        sys.exit(42 if (accepted, fork_drops, Box.released) == (False, 1, before) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42, status
    assert publisher.offer(Box())
    publisher.close()
    assert threading.active_count() == 1
    """
    done = run_program(path, body)
    assert (done.returncode, done.stderr) == (0, "")
    values = logged(path)
    assert len(values) == 3
    assert values[0] == values[1]
    assert values[2] == b"bye"
