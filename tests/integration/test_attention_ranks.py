"""Heads and vocabularies that two real ranks of DeepSpeed share add up to those of one process."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_job import RANKS, SETTINGS, VOCABULARY, batch, llama
from rank_processes import free_port, rank_environment

from infoplane.agent import attach
from infoplane.collector.assemble.bodies import SketchBody, TokensBody
from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb

Summaries = dict[tuple[str, str], np.ndarray]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers"),
]


@pytest.fixture(autouse=True)
def _deepspeed(require: Any) -> None:
    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")


def records_of(mode: str, folder: Path) -> list[pb.Record]:
    """Train on two ranks, and return what they sent."""
    port = str(free_port())
    job = Path(__file__).with_name("attention_job.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(job), mode, str(rank), port, str(folder)],
            env=rank_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(RANKS)
    ]  # fmt: skip
    outputs = [rank.communicate(timeout=180)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * RANKS, "\n".join(outputs)[-4000:]
    return [pb.Record.FromString(path.read_bytes()) for path in sorted(folder.glob("*.record"))]


@cache
def alone() -> tuple[pb.Record, ...]:
    """Return the records of one process that has the whole model and batch."""
    model = llama()
    monitor = attach(model, config=SETTINGS)
    ids = batch()[:, :-1].contiguous()
    model(input_ids=ids, labels=ids).loss.backward()
    monitor.step()
    monitor.close()
    return tuple(decode(message.value, pb.Record) for message in monitor.messages)


def heads_of(records: list[pb.Record] | tuple[pb.Record, ...]) -> Summaries:
    """Return the summaries that the collector merges, by tap and name."""
    sketches = [r.sketch for r in records if r.unit == "attention" and r.HasField("sketch")]
    first, *others = map(SketchBody.of, sketches)
    for other in others:
        assert first.agrees_with(other)
        first.add(other)
    return {
        (pane.tap.tap, summary.name): from_tensor(summary.values)
        for pane in first.parts()
        for summary in pane.tap.summaries
    }


def tokens_of(records: list[pb.Record] | tuple[pb.Record, ...]) -> dict[str, np.ndarray]:
    """Return the columns that the collector merges."""
    first, *others = (TokensBody.of(r.tokens) for r in records if r.HasField("tokens"))
    for other in others:
        assert first.agrees_with(other)
        first.add(other)
    (pane,) = first.parts()
    assert pane.tokens.vocabulary == VOCABULARY
    found = {column.name: from_tensor(column.values) for column in pane.tokens.columns}
    return {**found, "keys": from_tensor(pane.tokens.row_keys)}


@pytest.mark.parametrize("mode", ["tp", "vocabulary", "sp"])
def test_ranks_add_up_to_one_process(mode: str, tmp_path: Path) -> None:
    records = records_of(mode, tmp_path)
    senders = {(r.unit, r.sender.index, r.sender.count) for r in records}
    assert {("attention", 0, 2), ("attention", 1, 2)} <= senders
    found, wanted = heads_of(records), heads_of(alone())
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-4, err_msg=str(key))
    if mode == "vocabulary":
        assert {("tokens", 0, 2), ("tokens", 1, 2)} <= senders
        columns, whole = tokens_of(records), tokens_of(alone())
        assert columns.keys() == whole.keys() - {"rank"}
        for name, values in columns.items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=2e-5, err_msg=name)
    if mode == "tp":
        assert ("tokens", 0, 1) in senders
