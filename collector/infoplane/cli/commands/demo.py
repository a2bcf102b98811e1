"""`infoplane demo`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

import typer

from infoplane.cli.flags import Json
from infoplane.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from infoplane.cli.signals import StopSignal

Report: TypeAlias = dict[str, Any]


def demo(
    context: typer.Context,
    rlhf: Annotated[
        bool,
        typer.Option(
            "--rlhf", help="Watch a reward model and a policy learn from preferences instead."
        ),
    ] = False,
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A running broker instead of the embedded one."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps; 512 with --rlhf.")] = 400,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of training, about, instead of --steps.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.", min=0)] = 1,
    fault: Annotated[str, typer.Option(help="Fault to inject: lr, shard or collapse.")] = "lr",
    no_fault: Annotated[bool, typer.Option("--no-fault", help="Train without a fault.")] = False,
    shuffle_labels: Annotated[
        bool, typer.Option("--shuffle-labels", help="Train on permuted targets.")
    ] = False,
    act: Annotated[
        bool,
        typer.Option("--act", help="Let the controller cut the learning rate on a change verdict."),
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
    common: dict[str, Any] = {
        "seed": seed,
        "bootstrap": bootstrap,
        "keep_open": keep_open,
        "port": port,
    }
    if rlhf:
        given = {name for name in context.params if _is_given(context, name)}
        _demo_rlhf(given, steps if "steps" in given else None, record, as_json, **common)
        return
    _demo_fault(
        steps=steps,
        duration_s=duration,
        fault=None if no_fault else fault,
        shuffle_labels=shuffle_labels,
        act=act,
        record=record,
        as_json=as_json,
        **common,
    )


def _demo_fault(**chosen: Any) -> None:
    from infoplane.cli.demo.conductor import Conductor
    from infoplane.cli.demo.options import DemoOptions
    from infoplane.cli.demo.report import report_rows

    options = DemoOptions(**chosen)

    def tables(report: Report) -> None:
        emit_table(("WHAT", "VALUE"), report_rows(report))

    _conduct(
        partial(Conductor, options),
        tables,
        as_json=options.as_json,
        keep_open=options.keep_open,
    )


def _demo_rlhf(
    given: set[str], steps: int | None, record: Path | None, as_json: bool, **common: Any
) -> None:
    from infoplane.cli.demo.rlhf.conductor import RlhfConductor
    from infoplane.cli.demo.rlhf.options import DEFAULT_STEPS, RlhfOptions, refuse_others
    from infoplane.cli.demo.rlhf.report import finding_rows, report_rows

    refuse_others(given)
    options = RlhfOptions(steps=DEFAULT_STEPS if steps is None else steps, record=record, **common)

    def tables(report: Report) -> None:
        emit_table(("GAUGE", "FIRST", "MIDDLE", "LAST"), report_rows(report))
        emit_table(("FINDING", ""), finding_rows(report))

    _conduct(partial(RlhfConductor, options), tables, as_json=as_json, keep_open=options.keep_open)


class _Conducts(Protocol):
    def run(self, on_report: Callable[[Report], None]) -> None:
        """Run a demo and hand its report over."""
        ...


def _conduct(
    conductor: Callable[[StopSignal], _Conducts],
    tables: Callable[[Report], None],
    *,
    as_json: bool,
    keep_open: bool,
) -> None:
    """Run a demo until its end or a signal, and print what it reports."""
    from infoplane.cli.signals import stop_on_signals

    reports: list[Report] = []

    def show(report: Report) -> None:
        reports.append(report)
        if not as_json:
            tables(report)

    with stop_on_signals() as stop:
        conductor(stop).run(show)
    if as_json and reports:
        emit_json(reports[-1])
    # Ending a demo that was kept open is how it is meant to end.
    if stop.exit_code and not (keep_open and reports):
        raise typer.Exit(stop.exit_code)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
