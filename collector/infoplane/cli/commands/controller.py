"""`infoplane controller`."""

from __future__ import annotations

from collections.abc import Callable

from infoplane.cli.flags import Bootstrap, ConfigFile, Json, MetricsPort, Prefix, settings_from
from infoplane.cli.service import run_until_stopped
from infoplane.cli.signals import StopSignal


def controller(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    metrics_port: MetricsPort = None,
    as_json: Json = False,
) -> None:
    """Run WATCH: results in, verdicts out; with a policy [policy.file] also what it proposes, and signed commands."""
    settings = settings_from(config, bootstrap, prefix, pipeline={"metrics_port": metrics_port})

    def run(stop: StopSignal, on_ready: Callable[..., None]) -> None:
        from infoplane.cli.stages import controller_stages, run_service

        run_service(controller_stages(settings), settings, stop, on_ready)

    run_until_stopped("controller", run, as_json=as_json)
