"""The controller is killed ten times at random moments while it works: no command twice, none forgotten.

A real broker, the real driver, a policy that enforces; what reaches `control` goes through the agent's own gate.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaProducer

from infoplane.agent.control.gate import Gate, Rules
from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.cli.reading import TopicReader
from infoplane.collector.drivers.client import client_settings
from infoplane.collector.drivers.embedded import run_stages
from infoplane.collector.drivers.replay import entry_of, run_stage
from infoplane.collector.drivers.topics import create_topics
from infoplane.collector.settings import KafkaSection
from infoplane.collector.stage import Emission, Stage
from infoplane.controller.policy import Policy, PolicyEngine
from infoplane.controller.watch import WatchSettings, watch_stage
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS
from infoplane.wire.commands import CommandError, KeyRing, Sign, create_keys, signer
from infoplane.wire.topics import AUDIT, CONTROL, RESULTS, STATE, VERDICTS, Topic, run_key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

RUN, KILLS, WINDOWS, PACE_S = "drill", 10, 60, 0.4
SESSION_S = 1.0  # as long does the group wait for a member that was killed
POLICY = Policy.model_validate(
    {
        "version": 1,
        "mode": "enforce",
        "budget": 20,
        "rules": [
            {
                "name": "low",
                "when": {"metric": "policy_entropy_nats", "below": 1.0, "agree": 2, "of": 3},
                "action": "sampling_level",
                "value": 2,
                "cooldown_windows": 2,
                "budget": 10,
            },
            {
                "name": "not-a-number",
                "when": {"verdict": {"severity": "critical"}},
                "action": "checkpoint",
                "cooldown_windows": 1,
                "budget": 5,
            },
        ],
    }
)


def stage(sign: Sign) -> Stage[Any]:
    return watch_stage(WatchSettings(cooldown_windows=5), lambda: PolicyEngine(POLICY, sign))


def control(bootstrap: str, key: Path) -> None:
    """A controller process."""
    kafka = KafkaSection(bootstrap_servers=bootstrap, session_timeout_s=SESSION_S)
    run_stages([stage(signer(key))], kafka, threading.Event())


def results(start_ms: int) -> Iterator[list[pb.Result]]:
    """The results of one window after the other: the policy's entropy dips every ten windows, NaN every 25."""
    noise = np.random.default_rng(1)
    for window in range(WINDOWS):
        low = window % 10 in (6, 7, 8)
        broken = window % 25 == 20
        values: list[tuple[str, float, dict[str, str]]] = [
            ("von_neumann_entropy_nats", 3 + 0.01 * noise.normal(), {"tap": tap, "layer": tap[:2]})
            for tap in ("00/block", "01/block", "02/block")
        ]
        values.append(("token_surprisal_nats", math.nan if broken else 2.0, {}))
        values.append(("policy_entropy_nats", 0.5 if low else 2.0, {}))
        yield [
            pb.Result(
                run=RUN, attempt=1, window=window, pane=pb.Pane(kind=pb.FINAL), first_step=8 * window,
                last_step=8 * window + 7, clock_ms=start_ms + round(1000 * PACE_S * window), metric=metric,
                labels=[pb.Label(name=k, value=v) for k, v in sorted(labels.items())],
                value=value, n=1000, completeness=1.0, undefined="nan" if math.isnan(value) else "",
            )
            for metric, value, labels in values
        ]  # fmt: skip


@pytest.fixture
def kafka(require: Callable[[str, bool, str], None]) -> Iterator[KafkaSection]:
    require("broker", True, "")
    with EmbeddedBroker() as broker:
        section = KafkaSection(bootstrap_servers=broker.bootstrap)
        create_topics(broker.bootstrap, section.names)
        yield section


def test_no_command_twice(kafka: KafkaSection, tmp_path: Path) -> None:
    key, public = create_keys(tmp_path)
    start_ms = int(time.time() * 1000)
    log = [
        entry_of(Emission(RESULTS, run_key(RUN), result), kafka.names, 0)
        for window in results(start_ms)
        for result in window
    ]
    wanted = list(run_stage(_numbered(log), stage(signer(key))))

    audited = _distinct([e.message for e in wanted if e.topic is AUDIT])
    _drill(kafka, key, log, len(audited))

    commands = {_inner(e.message).id: e.message for e in wanted if e.topic is CONTROL}
    assert len(commands) >= 6
    sent = [m for m in _read(kafka, CONTROL) if isinstance(m, pb.SignedCommand)]
    assert {_inner(one).id for one in sent} == set(commands)
    assert all(one == commands[_inner(one).id] for one in sent), "other bytes under a known id"

    # What a run would make of all that: it obeys every command once, whatever comes how often.
    bounds = {name: (action.low, action.high) for name, action in ACTIONS.items()}
    rules = Rules(RUN, 1, KeyRing.of_files([public]), frozenset(ACTIONS), bounds)
    gate = Gate(rules, clock_ms=lambda: start_ms)
    fates: Counter[tuple[str, str]] = Counter()
    for one in sent:
        try:
            fates[gate.open(one).id, "obeyed"] += 1
        except CommandError as refusal:
            fates[_inner(one).id, refusal.reason] += 1
    assert {key for key in fates if key[1] == "obeyed"} == {(one, "obeyed") for one in commands}
    assert all(count == 1 for (_, fate), count in fates.items() if fate == "obeyed")
    assert {fate for _, fate in fates} <= {"obeyed", "replayed"}

    for topic in (VERDICTS, AUDIT):
        assert _distinct(_read(kafka, topic)) == _distinct(
            [e.message for e in wanted if e.topic is topic]
        )


def _drill(kafka: KafkaSection, key: Path, log: list[Any], audited: int) -> None:
    """Publish a share of the results for every life of the controller, and kill it while it reads them."""
    context = multiprocessing.get_context("fork")
    generator = random.Random(5)
    producer = KafkaProducer(**client_settings(kafka), enable_idempotence=False, linger_ms=1)
    shares = np.array_split(np.arange(len(log)), KILLS + 1)
    try:
        for life, share in enumerate(shares):
            controller = context.Process(target=control, args=(kafka.bootstrap_servers, key))
            controller.start()
            known = len(_read(kafka, STATE))
            for place in share:
                entry = log[place]
                producer.send(
                    entry.topic, key=entry.key, value=entry.value, timestamp_ms=entry.timestamp_ms
                )
                time.sleep(0.02)
            producer.flush(timeout=20)
            _await_work(kafka, known)
            if life < KILLS:
                time.sleep(generator.uniform(0.0, 1.2))  # commits come every second
                os.kill(controller.pid or 0, signal.SIGKILL)
                controller.join()
        _settle(kafka, audited)
    finally:
        producer.close()
        controller.kill()
        controller.join()


def _await_work(kafka: KafkaSection, known: int) -> None:
    """Wait until the controller has saved something new."""
    deadline = time.monotonic() + 60
    while len(_read(kafka, STATE)) <= known:
        assert time.monotonic() < deadline, "the controller does nothing"


def _settle(kafka: KafkaSection, audited: int) -> None:
    """Wait until the audit trail is whole, and then for what should not come any more."""
    deadline = time.monotonic() + 90
    while len(_distinct(_read(kafka, AUDIT))) < audited:
        assert time.monotonic() < deadline, "the audit trail stays incomplete"
        time.sleep(0.5)
    time.sleep(3.0)


def _numbered(log: list[Any]) -> list[Any]:
    import dataclasses

    return [dataclasses.replace(entry, offset=place) for place, entry in enumerate(log)]


def _inner(signed: Any) -> pb.Command:
    return pb.Command.FromString(signed.command)


def _distinct(messages: list[Any]) -> set[bytes]:
    return {message.SerializeToString(deterministic=True) for message in messages}


def _read(kafka: KafkaSection, topic: Topic) -> list[Any]:
    reader = TopicReader(kafka, (topic,))
    try:
        messages, quiet = [], 0
        while quiet < 2:
            batch = reader.poll(200)
            messages += [read.message() for read in batch]
            quiet = 0 if batch else quiet + 1
        return messages
    finally:
        reader.close()
