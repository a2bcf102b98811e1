"""Whatever happens to the agent, training ends as it does without: same losses, same exit code, and soon.

A process per case runs `chaos_job.py`; a control with the agent switched off runs the same training. What is lost is
counted by its reason. All of it takes some minutes, so it runs where INFOPLANE_CHAOS=1, as `make chaos` sets it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_processes import free_port, rank_environment

from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

JOB = Path(__file__).with_name("chaos_job.py")
LIMIT_S = 150.0
EXIT_BEYOND_CONTROL_S = 3.0
STEPS = 30
UNITS = 4  # layers, tokens, scalars, agent
ERRORS, TAPS_OFF = 3, 3  # of a tap, and taps, that the breaker allows
IS_LONG = os.environ.get("INFOPLANE_LONG") == "1"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("INFOPLANE_CHAOS"), reason="see `make chaos`"),
]


@dataclass
class Ended:
    """A job that is over."""

    code: int
    exit_seconds: float
    result: dict[str, Any]
    log: str

    @property
    def losses(self) -> list[str]:
        return list(self.result["losses"])

    def count(self, name: str, reason: str = "") -> float:
        stats: dict[str, float] = self.result["stats"]
        return stats.get(f"{name}{{{reason}}}" if reason else name, 0.0)

    def dropped(self) -> dict[str, float]:
        found: dict[str, float] = self.result["stats"]
        return {
            key.split("{")[1][:-1]: n
            for key, n in found.items()
            if key.startswith("records_dropped") and n
        }


class Job:
    """One process of `chaos_job.py`."""

    def __init__(self, case: str, folder: Path, rank: int = 0, **own: str) -> None:
        self.folder = folder
        self.rank = rank
        self.path = folder / f"{rank}.iplog"
        environment = {
            "INFOPLANE_TRANSPORT": "file",
            "INFOPLANE_FILE__PATH": str(folder / "{rank}.iplog"),
            "INFOPLANE_SAMPLING__BASE_LEVEL": "0",
            "INFOPLANE_GOVERNOR__ENABLED": "0",
            "INFOPLANE_EXIT_TIMEOUT_S": "1.5",
            "CHAOS_STEPS": str(STEPS),
            "RANK": str(rank),
            **own,
        }
        with (folder / f"log-{rank}").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(JOB), case, str(folder)],
                env=rank_environment(**environment),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)
        self.process.kill()
        self.process.communicate()

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.strip()

    def until(self, wanted: str) -> None:
        assert any(line == wanted for line in self.lines()), (self.folder / "log-0").read_text()

    def say_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> Ended:
        """Wait for the end; the time is measured from the last line that the job said."""
        for _ in self.lines():
            began = time.monotonic()
        code = self.process.wait(LIMIT_S)
        seconds = time.monotonic() - began
        file = self.folder / f"result-{self.rank}.json"
        result = json.loads(file.read_text()) if file.exists() else {}
        return Ended(code, seconds, result, (self.folder / f"log-{self.rank}").read_text())


def records(path: Path) -> list[pb.Record]:
    return [decode(entry.value, pb.Record) for entry in read_log(path)]


def steps_of(path: Path, body: str = "agent") -> list[int]:
    return [r.step for r in records(path) if r.WhichOneof("body") == body]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Return how the training ends without the agent."""
    with Job("plain", tmp_path_factory.mktemp("control"), INFOPLANE_ENABLED="0") as job:
        ended = job.end()
    assert ended.code == 0, ended.log
    assert len(ended.losses) == STEPS
    return ended


@pytest.fixture
def run(tmp_path: Path, control: Ended) -> Callable[..., Ended]:
    """Return `run(case, **environment)`, which checks what holds in every case."""

    def run(case: str, code: int = 0, **own: str) -> Ended:
        with Job(case, tmp_path, **own) as job:
            ended = job.end()
        check(ended, control, code)
        return ended

    return run


def check(ended: Ended, control: Ended, code: int = 0) -> None:
    assert ended.code == code, ended.log
    assert "Traceback" not in ended.log
    assert ended.losses == control.losses
    assert ended.exit_seconds <= control.exit_seconds + EXIT_BEYOND_CONTROL_S


def test_a_tap_that_raises_ends_itself_and_then_all(run: Callable[..., Ended]) -> None:
    ended = run("raising", CHAOS_END="close")
    # The fourth tap has not had its third error when the third is off.
    assert ended.count("tap_errors", "ValueError") == TAPS_OFF * ERRORS + 2
    assert ended.count("taps_off") == TAPS_OFF
    assert ended.count("breaker_open") == 1
    assert ended.count("steps") == STEPS, "scalars and heartbeats go on"
    assert ended.log.count("all taps are off") == 1


def test_memory_running_out_in_a_tap_ends_all_taps_at_once(run: Callable[..., Ended]) -> None:
    ended = run("memory", CHAOS_END="close")
    assert ended.count("breaker_open") == 1
    assert ended.count("tap_errors", "OutOfMemoryError") == 1
    assert ended.count("steps") == STEPS


def test_a_queue_that_nobody_empties_drops_and_counts(run: Callable[..., Ended]) -> None:
    ended = run("stuck", CHAOS_END="close", INFOPLANE_BUFFERS__QUEUE_BYTES="65536")
    dropped = ended.dropped()
    assert dropped["byte_budget"] > 0
    assert set(dropped) <= {"byte_budget", "no_slot", "closed", "queue_full"}
    assert ended.count("close_timeouts") == 1


def test_workers_of_a_loader_are_silent_and_their_parent_goes_on(
    tmp_path: Path, control: Ended
) -> None:
    with Job("loaders", tmp_path, CHAOS_END="close", INFOPLANE_BUFFERS__SLOTS="64") as job:
        ended = job.end()
    assert ended.code == 0, ended.log
    assert ended.losses[:STEPS] == control.losses
    assert len(ended.losses) == 3 * STEPS
    assert ended.dropped() == {}
    assert steps_of(job.path) == list(range(3 * STEPS))
    numbers = Counter((r.unit, r.seq) for r in records(job.path))
    assert set(numbers.values()) == {1}, "a worker spoke in its parent's name"


def test_sigterm_ends_the_job_at_once_and_leaves_whole_records(tmp_path: Path) -> None:
    with Job("plain", tmp_path, CHAOS_PACE_S="0.1", CHAOS_STEPS="400") as job:
        job.until("STEP 25")
        job.process.send_signal(signal.SIGTERM)
        assert job.process.wait(EXIT_BEYOND_CONTROL_S) == -signal.SIGTERM
    found = steps_of(job.path)
    assert found == list(range(len(found))), "what was written is whole and in order"
    assert len(found) >= 10, "the file is flushed every second"
    assert "bye" not in {r.WhichOneof("body") for r in records(job.path)}


def test_leaving_without_an_exit_is_immediate(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run("plain", code=3, CHAOS_END="_exit")
    assert ended.exit_seconds <= EXIT_BEYOND_CONTROL_S
    assert "bye" not in {r.WhichOneof("body") for r in records(tmp_path / "0.iplog")}


@pytest.mark.parametrize(
    ("fault", "when", "publisher"),
    [
        *itertools.product(
            ("dead", "stopped", "black-holed"), ("start", "middle", "exit"), ["thread"]
        ),
        ("stopped", "middle", "sidecar"),
    ],
)
def test_a_failing_broker_is_not_felt(
    tmp_path: Path, control: Ended, broker: Any, fault: str, when: str, publisher: str
) -> None:
    from scenarios import stage

    with stage() as scene:
        if when == "start":
            scene.fail(fault)
        own = {
            "INFOPLANE_TRANSPORT": "kafka",
            "INFOPLANE_PUBLISHER": publisher,
            "INFOPLANE_KAFKA__BOOTSTRAP_SERVERS": scene.broker.bootstrap,
            "CHAOS_PACE_S": "0.1",
            "CHAOS_END": "wait close",
        }
        with Job("plain", tmp_path, **own) as job:
            for line in job.lines():
                if line == "STEP 20" and when == "middle":
                    scene.fail(fault)
                if line == "END":
                    break
            if when == "exit":
                scene.fail(fault)
            began = time.monotonic()
            job.say_go()
            code = job.process.wait(LIMIT_S)
            seconds = time.monotonic() - began
        result = json.loads((tmp_path / "result-0.json").read_text())
        ended = Ended(code, seconds, result, (tmp_path / "log-0").read_text())
    check(ended, control)
    taken = ended.count("records_delivered") + sum(ended.dropped().values())
    assert taken >= STEPS * UNITS, "a record is neither delivered nor counted"
    if when != "exit":
        assert ended.dropped()
    if when != "start" and publisher == "thread":
        # A sidecar takes a second or more to load, and may find the broker stopped already.
        assert ended.count("records_delivered") > 0


def test_a_rank_that_is_stopped_for_a_while_loses_nothing(tmp_path: Path) -> None:
    own = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "INFOPLANE_RUN": "chaos",
        "INFOPLANE_BUFFERS__SLOTS": "64",
        "CHAOS_PACE_S": "0.05",
        "CHAOS_END": "close",
    }
    with Job("plain", tmp_path, **own) as first, Job("plain", tmp_path, rank=1, **own) as second:
        second.until("STEP 10")
        second.process.send_signal(signal.SIGSTOP)
        time.sleep(30.0 if IS_LONG else 2.0)
        second.process.send_signal(signal.SIGCONT)
        ended = [first.end(), second.end()]
    for rank in ended:
        assert rank.code == 0, rank.log
        assert len(rank.losses) == STEPS
        assert rank.dropped() == {}
    for job in (first, second):
        assert steps_of(job.path) == list(range(STEPS))


def test_many_starts_and_ends_leave_nothing_behind(tmp_path: Path) -> None:
    with Job("cycles", tmp_path, CHAOS_CYCLES="200", INFOPLANE_BUFFERS__SLOTS="2") as job:
        ended = job.end()
    assert ended.code == 0, ended.log
    seen = np.array(ended.result["seen"], dtype=float)
    assert len(seen) == 20
    threads, descriptors, objects, resident = seen[4:].T  # pools have grown by then
    assert set(threads) == {1.0}
    assert len(set(descriptors)) == 1
    assert ended.result["hooks"] == 0
    assert objects[-1] - objects[0] < 40, "something is kept of every cycle"
    growth = np.polyfit(np.arange(len(resident)), resident, 1)[0] * len(resident)
    assert growth < 4 << 20, f"{growth / 1e6:.1f} MB over 160 cycles"
