"""Processes that the command starts: they end with it, and their failures are readable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infoplane.cli.child import Child, ChildError, stop_all

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def wait_until_up(child: Child) -> None:
    deadline = time.monotonic() + 20
    while not child.output.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_children_end_when_asked_and_by_force_when_they_do_not(tmp_path: Path) -> None:
    children = [Child("polite", SLEEP, tmp_path), Child("stubborn", STUBBORN, tmp_path)]
    for child in children:
        wait_until_up(child)
        child.check()
    began = time.monotonic()
    stop_all(children, 1.0)
    assert time.monotonic() - began < 5
    assert [child.code for child in children] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_child_that_ended_shows_its_last_words(tmp_path: Path) -> None:
    child = Child("brief", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
    assert child.wait(time.monotonic() + 20)
    with pytest.raises(ChildError, match=r"(?s)brief ended with code 1; log .*no such thing"):
        child.check()


def test_niceness_and_environment_arrive(tmp_path: Path) -> None:
    code = "import os; print(os.nice(0), os.environ['WORD'])"
    before = os.nice(0)
    child = Child(
        "nice", [sys.executable, "-c", code], tmp_path, environment={"WORD": "x"}, niceness=3
    )
    child.wait(time.monotonic() + 20)
    assert child.output.read_text().split() == [str(min(19, before + 3)), "x"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from infoplane.cli.child import Child
child = Child("orphan", {SLEEP!r}, Path({str(tmp_path)!r}))
while not child.output.read_text():
    time.sleep(0.02)
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)
