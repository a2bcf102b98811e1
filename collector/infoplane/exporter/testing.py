"""A made-up run, true to the schema, for tests, screenshots and trying the page without a training job.

Smooth curves with noise that depends on the seed only. From `breaks_at` on, entropies of the later half of the
layers fall, as they do when representations collapse.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from infoplane.collector.metrics import metric_named
from infoplane.collector.taps import is_residual, layer_of
from infoplane.wire import infoplane_pb2 as pb

SPAN: Final = 128
_CEILING_NATS: Final = 3.2


@dataclass(frozen=True, slots=True)
class MadeUpRun:
    """Results, verdicts and interventions of one run, window by window.

    Attributes:
        run: its name.
        num_layers: blocks of the model.
        breaks_at: window at which the later layers begin to collapse; None: never.
        attempt: attempt number.
    """

    run: str
    num_layers: int = 8
    breaks_at: int | None = None
    attempt: int = 1

    @property
    def taps(self) -> list[str]:
        """Tap names by depth."""
        return ["embed", *(f"{i:02d}/block" for i in range(self.num_layers)), "final_norm"]

    def results(self, window: int, clock_s: float) -> Iterator[pb.Result]:
        """Yield every result of one window that closed at `clock_s`, Unix seconds."""
        noise = random.Random(f"{self.run}/{window}")  # noqa: S311 - no secret
        for metric, labels, fields in [
            *self._per_tap(window, noise),
            *self._per_run(window, noise),
        ]:
            yield self._result(metric, labels, fields, window, clock_s)

    def _fall(self, window: int, tap: str) -> float:
        """Return the factor by which a tap collapsed: 1 is healthy."""
        depth = self.taps.index(tap) / len(self.taps)
        if self.breaks_at is None or window < self.breaks_at or depth < 0.5:
            return 1.0
        return 0.55 + 0.45 * math.exp(-(window - self.breaks_at + 1) / 4)

    def _per_tap(self, window: int, noise: random.Random) -> Iterator[_Row]:
        for depth, tap in enumerate(self.taps):
            labels = {"tap": tap, "layer": layer_of(tap)}
            growth = 1 - math.exp(-(window + 4) / 40)
            height = (1.4 + 2.2 * growth * (0.5 + 0.5 * depth / len(self.taps))) * self._fall(
                window, tap
            )
            entropy = height + noise.gauss(0, 0.015)
            band = {"band_low": entropy - 0.05, "band_high": entropy + 0.05}
            yield "von_neumann_entropy_nats", labels, {"value": entropy, **band}
            yield "effective_rank", labels, {"value": math.exp(entropy)}
            if window % 2 == 0:
                about = 0.15 + 0.9 * growth * depth / len(self.taps) * self._fall(window, tap)
                yield (
                    "mutual_information_nats",
                    {**labels, "label": "next_token", "estimator": "heldout_ksg"},
                    _information(about, noise),
                )
        yield from self._per_pair(window, noise)

    def _per_pair(self, window: int, noise: random.Random) -> Iterator[_Row]:
        for place, (first, second) in enumerate(pairwise(filter(is_residual, self.taps))):
            labels = {"pair": f"{first}|{second}", "layer": layer_of(second)}
            shared = 1.1 + 2.0 * (place + 1) / len(self.taps)
            shared *= 0.6 + 0.4 * self._fall(window, second)
            for estimator, every in (("heldout_ksg", 2), ("gaussian", 1)):
                if window % every == 0:
                    fields = _information(shared, noise)
                    yield "mutual_information_nats", {**labels, "estimator": estimator}, fields

    def _per_run(self, window: int, noise: random.Random) -> Iterator[_Row]:
        loss = 2.0 + 8.0 * math.exp(-window / 30) + noise.gauss(0, 0.03)
        rate = 3e-4 * min(1.0, (window + 1) / 10) * (3.0 if self._broken(window) else 1.0)
        yield "training_scalar", {"stream": "loss"}, {"value": loss}
        yield "training_announced", {"stream": "learning_rate"}, {"value": rate}
        yield "token_surprisal_nats", {}, {"value": loss + noise.gauss(0, 0.05)}
        yield "policy_entropy_nats", {}, {"value": 0.9 * loss + noise.gauss(0, 0.05)}
        yield "agent_overhead_ratio", {}, {"value": 0.004 + noise.random() * 1e-3}
        for unit in ("agent", "layers/00-07", "scalars", "tokens"):
            yield "window_completeness_ratio", {"stream": unit}, {"value": 1.0}
        yield "agent_sent_records_total", {}, {"value": 64.0 * (window + 1)}
        yield "agent_dropped_records_total", {"reason": "queue_full"}, {"value": 0.0}

    def _broken(self, window: int) -> bool:
        return self.breaks_at is not None and window >= self.breaks_at

    def _result(
        self,
        metric: str,
        labels: Mapping[str, str],
        fields: Mapping[str, float],
        window: int,
        clock_s: float,
    ) -> pb.Result:
        known = metric_named(metric)
        result = pb.Result(
            run=self.run,
            attempt=self.attempt,
            window=window,
            pane=pb.Pane(kind=pb.FINAL),
            first_step=window * SPAN,
            last_step=(window + 1) * SPAN - 1,
            clock_ms=int(clock_s * 1000),
            metric=metric,
            labels=[pb.Label(name=name, value=value) for name, value in sorted(labels.items())],
            unit=known.unit,
            n=1024,
            completeness=1.0,
            estimator=labels.get("estimator", known.sources[0].estimator),
            estimator_version=1,
            saturated=fields["value"] >= fields.get("ceiling", math.inf),
        )
        for name, value in fields.items():
            setattr(result, name, value)
        return result

    def verdict(self, window: int, clock_s: float) -> pb.Verdict:
        """Return the verdict that a detector would give on the collapse, latched in `window`."""
        metric = "von_neumann_entropy_nats"
        since = self.breaks_at if self.breaks_at is not None else window
        fallen = self.taps[(len(self.taps) + 1) // 2 :]
        return pb.Verdict(
            run=self.run,
            attempt=self.attempt,
            id=f"{self.run}/{self.attempt}/change/{metric}/{window}",
            detector="change",
            severity="critical",
            metric=metric,
            window=window,
            since_step=since * SPAN,
            detected_step=(window + 1) * SPAN - 1,
            clock_ms=int(clock_s * 1000),
            pattern="the later layers fall together",
            sentence=f"Entropy falls in {len(fallen)} of {len(self.taps)} taps, all in the later half of the model.",
            evidence=[
                pb.Evidence(
                    labels=[
                        pb.Label(name="layer", value=layer_of(tap)),
                        pb.Label(name="tap", value=tap),
                    ],
                    value=1.0,
                    score=-12.0,
                )
                for tap in fallen
            ],
        )

    def audit(self, window: int, clock_s: float, ranks: int = 2) -> list[pb.AuditEntry]:
        """Return the audit trail of a command on the verdict of `window`: proposed, sent, applied on every rank."""
        told = [("proposed", "controller", 0), ("sent", "controller", 0)]
        told += [("applied", "agent", rank) for rank in range(ranks)]
        return [
            pb.AuditEntry(
                run=self.run,
                attempt=self.attempt,
                id=f"{self.run}/{self.attempt}/cut-rate/{window}",
                stage=stage,
                actor=actor,
                mode="enforce",
                action="learning_rate_factor",
                value=0.1,
                rule="cut-rate",
                reason="Entropy falls in the later half of the model.",
                rank=rank,
                step=(window + 1) * SPAN + (4 if stage == "applied" else -1),
                window=window,
                clock_ms=int(clock_s * 1000) + place,
            )
            for place, (stage, actor, rank) in enumerate(told)
        ]


_Row = tuple[str, Mapping[str, str], Mapping[str, float]]


def _information(value: float, noise: random.Random) -> dict[str, float]:
    measured = min(value + noise.gauss(0, 0.03), _CEILING_NATS)
    null = {"null_mean": 0.02 + noise.gauss(0, 0.005), "null_sd": 0.012}
    return {"value": measured, **null, "ceiling": _CEILING_NATS}
