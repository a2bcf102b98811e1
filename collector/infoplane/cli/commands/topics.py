"""`infoplane topics create|list`."""

from __future__ import annotations

from typing import Annotated

import typer

from infoplane.cli.flags import Bootstrap, ConfigFile, Json, Prefix, settings_from
from infoplane.cli.output import emit, emit_json, emit_table, say

app = typer.Typer(name="topics", help="Create or list the topics.", no_args_is_help=True)


@app.command("create")
def create(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    replication: Annotated[int, typer.Option(min=1, help="Copies of every partition.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be created.")] = False,
    as_json: Json = False,
) -> None:
    """Create every topic that does not exist yet; existing ones stay as they are."""
    from infoplane.cli.broker import topics_on
    from infoplane.collector.drivers.topics import create_topics
    from infoplane.wire.topics import TOPICS

    kafka = settings_from(config, bootstrap, prefix).kafka
    if dry_run:
        present = topics_on(kafka)
        names = [name for topic in TOPICS if (name := kafka.names.of(topic)) not in present]
    else:
        names = create_topics(kafka.bootstrap_servers, kafka.names, replication=replication)
    if as_json:
        emit_json({"created": [] if dry_run else names, "missing": names if dry_run else []})
        return
    for name in names:
        emit(name)
    say(f"{len(names)} topics {'would be ' if dry_run else ''}created on {kafka.bootstrap_servers}")


@app.command("list")
def list_topics(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """List the topics, how each is kept, and how many partitions it has on the broker."""
    from infoplane.cli.broker import topics_on
    from infoplane.wire.topics import TOPICS

    kafka = settings_from(config, bootstrap, prefix).kafka
    present = topics_on(kafka)
    rows = [
        {
            "topic": kafka.names.of(topic),
            "partitions": present.get(kafka.names.of(topic), 0),
            "kept": "compacted" if topic.compacted else f"{topic.retention_hours} h",
            "purpose": topic.purpose,
        }
        for topic in TOPICS
    ]
    if as_json:
        emit_json(rows)
        return
    emit_table(("TOPIC", "PARTITIONS", "KEPT", "PURPOSE"), [list(row.values()) for row in rows])
