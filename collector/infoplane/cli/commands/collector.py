"""`infoplane collector`."""

from __future__ import annotations

from collections.abc import Callable

from infoplane.cli.flags import Bootstrap, ConfigFile, Json, MetricsPort, Prefix, settings_from
from infoplane.cli.service import run_until_stopped
from infoplane.cli.signals import StopSignal


def collector(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    metrics_port: MetricsPort = None,
    as_json: Json = False,
) -> None:
    """Run ASSEMBLE and ESTIMATE: records in, windows and results out. Start any number: they share the work."""
    settings = settings_from(config, bootstrap, prefix, pipeline={"metrics_port": metrics_port})

    def run(stop: StopSignal, on_ready: Callable[..., None]) -> None:
        from infoplane.cli.stages import collector_stages, run_service

        run_service(collector_stages(settings), settings, stop, on_ready)

    run_until_stopped("collector", run, as_json=as_json)
