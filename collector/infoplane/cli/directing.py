"""Builds what the agents of a run are told through the topic `config`, and sends it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.settings import KafkaSection
from infoplane.wire import ConfigurationError, DecodeError, decode, encode, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import TransportError
from infoplane.wire.log import read_log
from infoplane.wire.topics import CONFIG, RECORDS, run_key

_SEND_S: Final = 15.0


def reference_from_rows(
    file: Path, tap: str, width: int, projection_seed: int, projection_version: int = 1
) -> pb.Reference:
    """Return the reference of projected rows (m, r) in a .npy file.

    Raises:
        ConfigurationError: the file holds no such array.
    """
    try:
        rows: NDArray[Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigurationError("--rows", str(file), f"a .npy file ({error})") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f":
        raise ConfigurationError("--rows", str(file), "an array of floats, (m, r)")
    sampling = pb.Sampling(
        projection_version=projection_version,
        projection_seed=projection_seed,
        projection_dim=rows.shape[1],
    )
    return _reference(sampling, tap, width, rows)


def reference_from_log(file: Path, run: str, tap: str, count: int) -> pb.Reference:
    """Return the reference of the `count` rows of `tap` with the smallest keys in a recorded log: a uniform sample.

    Raises:
        ConfigurationError: there is no such log, or no rows of the tap in it.
    """
    if not file.exists():
        raise ConfigurationError("--from-log", str(file), "an existing log, or a folder of logs")
    keys: list[NDArray[Any]] = []
    rows: list[NDArray[Any]] = []
    last: tuple[pb.Sampling, int] | None = None
    for sketch in _sketches(file, run):
        for one in sketch.taps:
            if one.tap == tap and not one.duplicate and one.HasField("rows") and not one.rows.parts:
                last = sketch.sampling, one.width
                kept = max(sketch.sampling.rows_per_step - sketch.sampling.novel_rows, 1)
                keys.append(from_tensor(sketch.row_keys, shape=(None,))[:kept])
                scale = from_tensor(one.rows.scale)[:kept, None]
                rows.append(from_tensor(one.rows.scaled)[:kept].astype(np.float32) * scale)
    if last is None:
        raise ConfigurationError("--from-log", str(file), f"records of run {run} with tap {tap}")
    order = np.argsort(np.concatenate(keys), kind="stable")
    found = np.concatenate(rows)[order]
    return _reference(last[0], tap, last[1], found[np.isfinite(found).all(axis=1)][:count])


def directive(
    run: str,
    from_step: int,
    reference: pb.Reference | None,
    taps_off: Sequence[str],
    version: int | None,
) -> pb.AgentConfig:
    """Return the message, checked as an agent checks it; without `version`, the time in seconds is one.

    Raises:
        ConfigurationError: agents would refuse it.
    """
    from infoplane.agent.directives import Expected, RefusedDirectiveError, read_directive

    now_ms = time.time_ns() // 1_000_000
    message = pb.AgentConfig(
        run=run,
        version=now_ms // 1000 if version is None else version,
        from_step=from_step,
        created_ms=now_ms,
        reference=reference,
        taps_off=taps_off,
    )
    own = reference or pb.Reference()
    try:
        read_directive(encode(message), Expected(own.sampling, own.scoring_tap))
    except RefusedDirectiveError as refusal:
        raise ConfigurationError("directive", refusal.reason, f"{refusal}") from None
    return message


def send(kafka: KafkaSection, message: pb.AgentConfig) -> None:
    """Write `message` to the topic; it takes the place of the run's last one.

    Raises:
        TransportError: no broker answers, or there is no such topic.
    """
    from infoplane.cli.broker import topics_on
    from infoplane.collector.drivers.client import client_settings
    from infoplane.wire.kafka_client import KafkaError, KafkaProducer

    name = kafka.names.of(CONFIG)
    if name not in topics_on(kafka):
        raise TransportError(
            f"{kafka.bootstrap_servers} has no topic {name}: infoplane topics create"
        )
    settings = {**client_settings(kafka), "acks": "all", "enable_idempotence": False}
    producer = KafkaProducer(**settings, max_request_size=4 << 20)
    try:
        producer.send(name, key=run_key(message.run), value=encode(message)).get(_SEND_S)
    except KafkaError as error:
        raise TransportError(f"{kafka.bootstrap_servers}: {error}") from error
    finally:
        producer.close(timeout=1.0)


def _reference(sampling: pb.Sampling, tap: str, width: int, rows: NDArray[Any]) -> pb.Reference:
    with np.errstate(over="ignore"):  # what does not fit is refused as an infinity
        half = rows.astype(np.float16)
    own = pb.Sampling(
        projection_version=sampling.projection_version,
        projection_seed=sampling.projection_seed,
        projection_dim=sampling.projection_dim,
    )
    return pb.Reference(sampling=own, scoring_tap=tap, width=width, rows=to_tensor(half))


def _sketches(file: Path, run: str) -> Iterator[pb.Sketch]:
    for entry in read_log(file):
        if not entry.topic.endswith(RECORDS.name):
            continue
        try:
            record = decode(entry.value, pb.Record)
        except DecodeError:
            continue
        if record.run == run and record.WhichOneof("body") == "sketch":
            yield record.sketch
