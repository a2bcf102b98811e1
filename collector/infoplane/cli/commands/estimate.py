"""`infoplane estimate`: any array metric of the registry, on arrays from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infoplane.cli.flags import Json
from infoplane.cli.output import emit_json, emit_table

_COLUMNS = ("value", "unit", "n", "null_mean", "null_sd", "ceiling", "saturated", "undefined")


def estimate(
    metric: Annotated[str, typer.Argument(help="Metric of `infoplane metrics list`.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="A.npz [B.npz ...]", help="Files with x, y, labels ...")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="estimator=NAME, or one of its options."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda[:n].")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of nulls, folds and jitter.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Compute METRIC from .npz files with the collector's own functions; --json gives one line a file, in order."""
    from infoplane.cli.offline import OfflineEstimate
    from infoplane.collector.metrics import metric_named

    door = OfflineEstimate(metric_named(metric), settings or [], device=device, seed=seed)
    rows: list[dict[str, Any]] = []
    for path in files:
        row = door.of_file(path)
        if as_json:
            emit_json(row)
        rows.append(row)
    if not as_json:
        emit_table(
            ("file", *_COLUMNS, "estimator"),
            [
                (path, *(row.get(name) for name in _COLUMNS), row["estimator"])
                for path, row in zip(files, rows, strict=True)
            ],
        )
