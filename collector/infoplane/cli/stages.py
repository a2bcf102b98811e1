"""The stages of the pipeline, made from the settings, and how a process of them runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from infoplane.collector.assemble.event_machine import event_stage
from infoplane.collector.assemble.event_windows import EventSettings
from infoplane.collector.assemble.machine import AssembleSettings, assemble_stage
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.collector.settings import Settings
from infoplane.collector.stage import Stage
from infoplane.controller.policy import engine_maker
from infoplane.controller.watch import WatchSettings, watch_stage


def collector_stages(settings: Settings) -> list[Stage[Any]]:
    """Return both forms of ASSEMBLE, for records and for events, and ESTIMATE."""
    assemble, estimate = settings.assemble, settings.estimate
    return [
        assemble_stage(
            AssembleSettings(
                deadline_ms=_ms(assemble.deadline_s),
                open_limit_ms=_ms(assemble.open_limit_s),
                lateness_ms=_ms(assemble.lateness_s),
                late_delay_ms=_ms(assemble.late_delay_s),
            )
        ),
        event_stage(
            EventSettings(
                deadline_ms=_ms(assemble.event_deadline_s),
                idle_ms=_ms(assemble.event_idle_s),
                open_limit_ms=_ms(assemble.open_limit_s),
                lateness_ms=_ms(assemble.lateness_s),
                late_delay_ms=_ms(assemble.late_delay_s),
                batch=assemble.event_batch,
            )
        ),
        estimate_stage(
            EstimateSettings(
                METRICS,
                join_deadline_ms=_ms(estimate.join_deadline_s),
                retain_windows=estimate.retain_windows,
                retain_ms=_ms(estimate.retain_s),
                horizon_events=estimate.horizon_events,
                device=_device(estimate.device),
                off=frozenset(estimate.off),
                on=frozenset(estimate.on),
                cadence=estimate.cadence,
            )
        ),
    ]


def controller_stages(settings: Settings, *, dry_run: bool = False) -> list[Stage[Any]]:
    """Return WATCH, with the policy if there is one; `dry_run` lets it propose only.

    Raises:
        ConfigurationError: the policy is wrong, or it enforces and there is no usable key.
    """
    watch = settings.watch
    return [
        watch_stage(
            WatchSettings(
                warmup_windows=watch.warmup_windows,
                threshold=watch.threshold,
                agree=watch.agree,
                of=watch.of,
                cooldown_windows=watch.cooldown_windows,
            ),
            engine_maker(settings.policy, dry_run=dry_run),
        )
    ]


def run_service(
    stages: Sequence[Stage[Any]],
    settings: Settings,
    stop: threading.Event,
    on_ready: Callable[[], None],
) -> None:
    """Run `stages` against the broker of `settings` until `stop` is set."""
    from infoplane.collector.drivers.embedded import run_stages
    from infoplane.collector.drivers.pipeline_metrics import PipelineMetrics

    metrics = PipelineMetrics()
    own = settings.pipeline
    with metrics.served(own.metrics_host, own.metrics_port):
        run_stages(stages, settings.kafka, stop, metrics, on_ready)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
