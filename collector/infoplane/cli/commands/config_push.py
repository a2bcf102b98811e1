"""`infoplane config push`: sends a directive to the agents of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infoplane.cli.flags import Bootstrap, ConfigFile, Json, Prefix, settings_from
from infoplane.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from infoplane.wire import infoplane_pb2 as pb

Rows = Annotated[
    Path | None,
    typer.Option("--rows", metavar="FILE.npy", help="Reference: projected rows (m, r)."),
]
FromLog = Annotated[
    Path | None,
    typer.Option("--from-log", metavar="FILE", help="Reference: rows of a recorded log."),
]
LogRun = Annotated[
    str | None, typer.Option("--log-run", help="Run in that log [the same as --run].")
]
Tap = Annotated[str, typer.Option("--tap", help="The reference's tap.")]
Count = Annotated[int, typer.Option("--count", min=1, max=4096, help="Rows taken from the log.")]
Width = Annotated[int, typer.Option("--width", help="With --rows: width of the tap.")]
Seed = Annotated[
    int, typer.Option("--projection-seed", help="With --rows [sampling.projection_seed].")
]
TapsOff = Annotated[str, typer.Option("--taps-off", help="Taps not to capture, comma separated.")]
Version = Annotated[
    int | None, typer.Option("--version", min=1, help="Must grow [the time in seconds].")
]
FromStep = Annotated[
    int,
    typer.Option("--from-step", min=0, help="Holds from the first window at this step or later."),
]


def push(
    run: Annotated[str, typer.Option("--run", help="The run whose agents are directed.")],
    from_step: FromStep,
    rows: Rows = None,
    from_log: FromLog = None,
    log_run: LogRun = None,
    tap: Tap = "embed",
    count: Count = 512,
    width: Width = 0,
    projection_seed: Seed = 0,
    taps_off: TapsOff = "",
    version: Version = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Send a reference for novelty and a choice of taps to the agents of a run, in place of what they had.

    Agents with config.enabled apply it, all at the same window if they have it by then: choose --from-step ahead.
    """
    from infoplane.cli.directing import directive, reference_from_log, reference_from_rows, send
    from infoplane.wire import ConfigurationError
    from infoplane.wire.topics import check_run_name

    if rows is not None and from_log is not None:
        raise ConfigurationError("--rows", str(rows), "not together with --from-log")
    if rows is not None and width < 1:
        raise ConfigurationError("--width", width, "the tap's width, with --rows")
    reference = None
    if rows is not None:
        reference = reference_from_rows(rows, tap, width, projection_seed)
    elif from_log is not None:
        reference = reference_from_log(from_log, log_run or run, tap, count)
    off = [name.strip() for name in taps_off.split(",") if name.strip()]
    message = directive(check_run_name(run), from_step, reference, off, version)
    send(settings_from(config, bootstrap, prefix).kafka, message)
    _print(message, as_json)


def _print(message: pb.AgentConfig, as_json: bool) -> None:
    found = {
        "run": message.run,
        "version": message.version,
        "from_step": message.from_step,
        "reference_rows": message.reference.rows.shape[0] if message.HasField("reference") else 0,
        "taps_off": list(message.taps_off),
    }
    if as_json:
        emit_json(found)
    else:
        emit_table(("KEY", "VALUE"), list(found.items()))
