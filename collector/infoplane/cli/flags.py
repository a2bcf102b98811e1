"""Flags that several commands share, and the settings that they make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from infoplane.collector.settings import Settings

Bootstrap = Annotated[
    str | None,
    typer.Option("--bootstrap", metavar="HOST:PORT", help="Brokers [kafka.bootstrap_servers]."),
]
Prefix = Annotated[
    str | None, typer.Option("--prefix", help="Prefix of every topic [kafka.topic_prefix].")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file of settings [INFOPLANE_CONFIG]."),
]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", help="Port of this process's /metrics [pipeline.metrics_port]."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_from(
    config: Path | None, bootstrap: str | None = None, prefix: str | None = None, **sections: Any
) -> Settings:
    """Return the settings of flags, environment and file.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    from infoplane.collector.settings import load_settings

    if config is not None:
        os.environ["INFOPLANE_CONFIG"] = str(config)
    kafka = {"bootstrap_servers": bootstrap, "topic_prefix": prefix}
    return load_settings(kafka=kafka, **sections)
