"""The sidecar as a real process: delivery, a full ring, its death, its rank's death, and the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.settings import Settings
from infoplane.agent.sidecar import SidecarTransport, Start, is_possible
from infoplane.agent.sidecar.transport import RESTARTS
from infoplane.agent.sources import load
from infoplane.agent.transports import Outgoing
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

WAIT_S = 60.0
pytestmark = pytest.mark.skipif(not is_possible(), reason="no sidecar on this system")


def settings(path: Path, **more: Any) -> Settings:
    given = {"transport": "file", "file.path": str(path), "publisher": "sidecar", **more}
    return load(given, {})


def message(number: int, nbytes: int = 100) -> Outgoing:
    return Outgoing("t", b"k", b"%06d" % number + bytes(nbytes), 1)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def numbers(path: Path) -> list[int]:
    return [int(entry.value[:6]) for entry in read_log(path)] if path.exists() else []


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Bench:
    """A transport with a sidecar behind it, that writes to `path`."""

    def __init__(self, folder: Path, ring_bytes: int = 1 << 20) -> None:
        self.path = folder / "rank.iplog"
        self.counters = Counters()
        start = Start(settings(self.path), "run", 0)
        self.transport = SidecarTransport(start, self.counters, ring_bytes=ring_bytes)

    @property
    def pid(self) -> int:
        assert self.transport.pid is not None
        return self.transport.pid

    def count(self, name: str, reason: str = "") -> float:
        return self.counters.snapshot().get((name, reason), 0.0)

    def poll_until(self, condition: Callable[[], bool]) -> None:
        eventually(lambda: bool(self.transport.poll() or condition()))

    def is_serving(self) -> bool:
        return len(self.transport._ring) == 0


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**more: Any) -> Bench:
        made.append(Bench(tmp_path, **more))
        return made[-1]

    yield make
    for bench in made:
        if bench.transport.pid is not None:
            os.kill(bench.transport.pid, signal.SIGCONT)
            bench.transport.close(0.0)


def test_everything_arrives_in_order_and_is_counted_in_the_rank(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    assert all(bench.transport.send(message(i)) for i in range(500))
    bench.transport.close(WAIT_S)
    assert numbers(bench.path) == list(range(500))
    assert bench.count("records_sent") == bench.count("records_delivered") == 500
    assert bench.count("publisher_cpu_seconds") > 0
    assert bench.counters.total("records_dropped") == 0
    assert bench.transport.pid is None


def test_the_sidecar_is_another_program_without_torch_or_our_environment(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.poll_until(bench.is_serving)
    modules = Path(f"/proc/{bench.pid}/maps").read_text()
    assert "numpy" in modules
    assert "torch" not in modules
    environment = Path(f"/proc/{bench.pid}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=" in environment
    ignored = next(
        line
        for line in Path(f"/proc/{bench.pid}/status").read_text().splitlines()
        if "SigIgn" in line
    )
    mask = int(ignored.split()[1], 16)
    assert mask >> (signal.SIGINT - 1) & 1
    assert mask >> (signal.SIGTERM - 1) & 1


def test_a_full_ring_drops_the_newest_and_says_why(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(ring_bytes=1 << 16)
    bench.poll_until(bench.is_serving)
    os.kill(bench.pid, signal.SIGSTOP)
    accepted = [bench.transport.send(message(i, 10_000)) for i in range(10)]
    assert accepted == [True] * 6 + [False] * 4
    assert bench.transport.refusal == "ring_full"
    os.kill(bench.pid, signal.SIGCONT)
    bench.poll_until(bench.is_serving)
    assert bench.transport.send(message(10))
    bench.transport.close(WAIT_S)
    assert numbers(bench.path) == [*range(6), 10]


def test_a_sidecar_that_dies_is_replaced_and_what_it_held_is_counted(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.poll_until(bench.is_serving)
    os.kill(bench.pid, signal.SIGSTOP)
    assert all(bench.transport.send(message(i)) for i in range(5))
    first = bench.pid
    os.kill(first, signal.SIGKILL)
    bench.poll_until(lambda: bench.transport.pid not in (None, first))
    assert bench.count("records_dropped", "sidecar_dead") == 5
    assert bench.count("sidecar_restarts") == 1
    assert bench.transport.send(message(5))
    bench.transport.close(WAIT_S)
    assert numbers(bench.path) == [5]


def test_it_is_replaced_a_few_times_only(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    monkeypatch.setattr(bench.transport, "_is_time", lambda: True)
    for _ in range(RESTARTS + 1):
        old = bench.pid
        os.kill(old, signal.SIGKILL)
        bench.poll_until(lambda old=old: bench.transport.pid != old)  # type: ignore[misc]
    assert bench.transport.pid is None
    assert not bench.transport.send(message(0))
    assert bench.transport.refusal == "sidecar_dead"
    assert bench.count("sidecar_restarts") == RESTARTS
    bench.transport.close(1.0)


def test_closing_is_bounded_when_the_sidecar_hangs(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.poll_until(bench.is_serving)
    pid = bench.pid
    os.kill(pid, signal.SIGSTOP)
    for i in range(3):
        bench.transport.send(message(i))
    bench.transport.close(0.2)
    assert is_gone(pid)
    assert bench.count("records_dropped", "sidecar_dead") == 3


def test_no_descriptor_is_left(make_bench: Callable[..., Bench]) -> None:
    make_bench().transport.close(WAIT_S)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        make_bench().transport.close(WAIT_S)
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- a rank as a process

# Without torch, which takes seconds to load: a publisher whose transport is the sidecar's.
PROGRAM = """
import json, os, signal, sys, time, warnings
from infoplane.agent.counters import Counters
from infoplane.agent.publisher import Publisher
from infoplane.agent.sidecar import SidecarTransport, Start
from infoplane.agent.sources import load
from infoplane.agent.transports import Outgoing

class Box:
    nbytes = 10
    def encode(self):
        return [Outgoing("t", b"k", b"record", 1)]
    def release(self):
        pass

made = []
def factory(counters):
    start = Start(load({"transport": "file", "file.path": sys.argv[1]}, {}), "r", 0)
    made.append(SidecarTransport(start, counters, ring_bytes=1 << 20))
    return made[0]

counters = Counters()
publisher = Publisher(factory, counters, beat=lambda: (),
                      farewell=lambda: [Outgoing("t", b"k", b"bye", 1)])
publisher.start()

def train(steps):
    for _ in range(steps):
        publisher.offer(Box())

train(3)
while not made:
    time.sleep(0.01)
print(json.dumps(made[0].pid), flush=True)

def until_taken():
    while not made[0]._starts or len(made[0]._ring) or counters.total("records_sent") < 3:
        time.sleep(0.01)
"""


def run_rank(path: Path, body: str) -> tuple[int, int, str]:
    """Return (exit code, process id of the sidecar, stderr) of a training script that ends with `body`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(body), str(path)],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[0]), done.stderr


def values(path: Path) -> list[bytes]:
    return [entry.value for entry in read_log(path)]


@pytest.mark.parametrize(("body", "code"), [
    ("", 0),
    ("sys.exit(7)", 7),
    ("publisher.close(); assert counters.total('records_delivered') == 4", 0),
])  # fmt: skip
def test_at_an_orderly_end_everything_is_written_and_the_sidecar_is_gone(
    tmp_path: Path, body: str, code: int
) -> None:
    path = tmp_path / "rank.iplog"
    found, pid, errors = run_rank(path, body)
    assert (found, errors) == (code, "")
    assert is_gone(pid)
    assert values(path) == [b"record"] * 3 + [b"bye"]


@pytest.mark.parametrize(("body", "code"), [
    ("until_taken(); os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ("until_taken(); os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ("until_taken(); os._exit(9)", 9),
])  # fmt: skip
def test_when_the_rank_dies_the_sidecar_sends_what_it_has_and_ends(
    tmp_path: Path, body: str, code: int
) -> None:
    path = tmp_path / "rank.iplog"
    found, pid, errors = run_rank(path, body)
    assert (found, errors) == (code, "")
    eventually(lambda: is_gone(pid))
    assert values(path) == [b"record"] * 3


def test_it_ends_with_its_rank_though_a_forked_worker_lives_on(tmp_path: Path) -> None:
    body = """
    warnings.simplefilter("ignore", DeprecationWarning)
    until_taken()
    worker = os.fork()
    if worker == 0:
        os.close(1); os.close(2)
        train(2)      # silent
        time.sleep(20)
        os._exit(0)
    print(worker, flush=True)
    os._exit(0)
    """
    path = tmp_path / "rank.iplog"
    found, pid, errors = run_rank(path, body)
    assert (found, errors) == (0, "")
    eventually(lambda: is_gone(pid))
    assert values(path) == [b"record"] * 3


def test_a_rank_that_asks_for_it_sends_through_a_sidecar(
    tmp_path: Path, make_loop: Callable[..., Any]
) -> None:
    path = tmp_path / "rank.iplog"
    loop = make_loop(**{"transport": "file", "file.path": str(path), "publisher": "sidecar"})
    for _ in range(4):
        loop.step()
    loop.monitor.close()
    found = [decode(value, pb.Record) for value in values(path)]
    assert [r.step for r in found if r.WhichOneof("body") == "agent"] == [0, 1, 2, 3]
    assert found[-1].WhichOneof("body") == "bye"
    assert loop.monitor.stats()["records_delivered"] == len(found)


def test_what_cannot_leave_the_process_stays_with_the_thread(
    make_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop(publisher="sidecar")
    loop.step()
    assert len(loop.records("agent")) == 1
    assert "no sidecar for transport memory" in caplog.text
