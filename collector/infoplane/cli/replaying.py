"""Replays a recorded log through all stages and prints what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from infoplane.cli.output import emit, emit_json, emit_table, say
from infoplane.cli.stages import collector_stages, controller_stages
from infoplane.collector.drivers.replay import entry_of
from infoplane.collector.drivers.replay import replay as replay_entries
from infoplane.collector.settings import Settings
from infoplane.collector.stage import Emission
from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry, LogWriter, read_log
from infoplane.wire.submessages import is_repeated
from infoplane.wire.topics import AUDIT, EVENTS, RECORDS, RESULTS, VERDICTS, Names


def replay_file(path: Path, settings: Settings, *, output: Path | None, as_json: bool) -> None:
    """Print what the stages make of the log at `path`.

    Raises:
        ConfigurationError: there is no log, it holds no records, or `output` exists.
        DecodeError: the log is damaged.
    """
    if not path.exists():
        raise ConfigurationError("file", str(path), "an existing log, or a folder of logs")
    if output is not None and output.exists():
        raise ConfigurationError("--output", str(output), "a file that does not exist yet")
    names = settings.kafka.names
    stages = [*collector_stages(settings), *controller_stages(settings, dry_run=True)]
    emissions: Iterable[Emission] = replay_entries(_records(path, names), stages, names)
    if output is not None:
        emissions = _written(emissions, output, names)
    if as_json:
        for emission in emissions:
            if emission.topic in (RESULTS, VERDICTS, AUDIT):
                emit_json({"topic": emission.topic.name, **as_fields(emission.message)})
        return
    _print_summary(emissions)


def as_fields(message: Message) -> dict[str, Any]:
    """Return a message as JSON-ready fields, named as in the schema; what is optional and unset is null."""
    return {
        field.name: _json_value(field, getattr(message, field.name), message)
        for field in message.DESCRIPTOR.fields
    }


def _json_value(field: Any, value: Any, message: Message) -> Any:
    if is_repeated(field):
        return [as_fields(one) if isinstance(one, Message) else one for one in value]
    if isinstance(value, Message):
        return as_fields(value) if message.HasField(field.name) else None
    if field.has_presence and not message.HasField(field.name):
        return None
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values_by_number[value].name
    return value


def _records(path: Path, names: Names) -> Iterator[LogEntry]:
    """Yield what agents sent. A log of all topics holds the outputs too: they are computed again."""
    wanted = (names.of(RECORDS), names.of(EVENTS))
    found = False
    for entry in read_log(path):
        if entry.topic in wanted:
            found = True
            yield entry
    if not found:
        expected = f"a log with entries of topic {' or '.join(wanted)} (see --prefix)"
        raise ConfigurationError("file", str(path), expected)


def _written(emissions: Iterable[Emission], output: Path, names: Names) -> Iterator[Emission]:
    writer = LogWriter(output)
    offsets: dict[str, int] = {}
    try:
        for emission in emissions:
            offset = offsets.get(emission.topic.name, 0)
            offsets[emission.topic.name] = offset + 1
            writer.append(entry_of(emission, names, offset))
            yield emission
    finally:
        writer.close()


def _print_summary(emissions: Iterable[Emission]) -> None:
    newest: dict[tuple[str, str, str], pb.Result] = {}
    verdicts: list[pb.Verdict] = []
    for emission in emissions:
        message = emission.message
        if isinstance(message, pb.Result) and emission.topic == RESULTS:
            labels = ",".join(f"{label.name}={label.value}" for label in message.labels)
            newest[(message.run, message.metric, labels)] = message
        elif isinstance(message, pb.Verdict):
            verdicts.append(message)
    rows = [
        (run, metric, labels, one.window, one.undefined or one.value, one.unit, one.n)
        for (run, metric, labels), one in newest.items()
    ]
    emit_table(("RUN", "METRIC", "LABELS", "WINDOW", "VALUE", "UNIT", "N"), rows)
    for verdict in verdicts:
        emit(f"verdict at step {verdict.detected_step}: {verdict.sentence}")
    say(f"{len(rows)} series, {len(verdicts)} verdicts")
