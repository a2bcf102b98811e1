"""`infoplane demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infoplane.cli.flags import Json
from infoplane.cli.output import emit_json, emit_table


def demo(
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A running broker instead of the embedded one."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 400,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of training, about, instead of --steps.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.", min=0)] = 1,
    fault: Annotated[str, typer.Option(help="Fault to inject: lr, shard or collapse.")] = "lr",
    no_fault: Annotated[bool, typer.Option("--no-fault", help="Train without a fault.")] = False,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="Train on permuted targets.")
    ] = False,
    keep_open: Annotated[
        bool, typer.Option("--keep-open", help="Leave the page up until Ctrl-C.")
    ] = False,
    port: Annotated[int | None, typer.Option(help="Port of the page, 0 = any.")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep all messages as a log for replay.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch a real two-rank DeepSpeed run on this machine, with a fault in the middle; about three minutes."""
    from infoplane.cli.demo.conductor import Conductor
    from infoplane.cli.demo.options import DemoOptions
    from infoplane.cli.demo.report import report_rows
    from infoplane.cli.signals import stop_on_signals

    options = DemoOptions(
        bootstrap=bootstrap,
        steps=steps,
        duration_s=duration,
        seed=seed,
        fault=None if no_fault else fault,
        shuffle_labels=shuffle_labels,
        keep_open=keep_open,
        port=port,
        record=record,
        as_json=as_json,
    )
    reports: list[dict[str, Any]] = []

    def show(report: dict[str, Any]) -> None:
        reports.append(report)
        if not as_json:
            emit_table(("WHAT", "VALUE"), report_rows(report))

    with stop_on_signals() as stop:
        Conductor(options, stop).run(show)
    if as_json and reports:
        emit_json(reports[-1])
    # Ending a demo that was kept open is how it is meant to end.
    if stop.exit_code and not (keep_open and reports):
        raise typer.Exit(stop.exit_code)
