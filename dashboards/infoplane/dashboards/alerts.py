"""The alerts: expression, patience, and the series that make each fire or stay quiet in its test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RUNBOOK: Final = "docs/runbook.md"  # relative: where the docs are served is up to whoever deploys


@dataclass(frozen=True, slots=True)
class Sample:
    """One input series of a promtool test; `values` in promtool's notation, one per 30 s."""

    series: str
    values: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: CamelCase symptom; also the heading of its section in docs/runbook.md.
        expr: PromQL; without `for_`'s patience.
        for_: how long it must hold.
        severity: warning or critical.
        summary: one line, may use Prometheus templates.
        description: what it means and what to look at.
        firing: input under which it fires after ten minutes.
        quiet: input under which it does not.
        labels: labels of the firing alert, besides severity.
        wording: the summary as the firing input renders it.
    """

    name: str
    expr: str
    for_: str
    severity: str
    summary: str
    description: str
    firing: tuple[Sample, ...]
    quiet: tuple[Sample, ...]
    labels: dict[str, str]
    wording: str


_RUN: Final = '{run="a"}'
_STREAM: Final = 'infoplane_window_completeness_ratio{run="a",stream="tokens"}'
_DROPPED: Final = 'infoplane_agent_dropped_records_total{run="a",reason="queue_full"}'
_SENT: Final = 'infoplane_agent_sent_records_total{run="a"}'
_VERDICT: Final = (
    'infoplane_verdicts_total{run="a",detector="change",severity="critical",'
    'metric="von_neumann_entropy_nats"}'
)
_REJECTED: Final = 'infoplane_series_rejected_total{run="a",reason="cap"}'
_DEAD: Final = 'infoplane_dead_letters_total{reason="checksum"}'
_ERRORS: Final = 'infoplane_exporter_decode_errors_total{reason="checksum"}'

ALERTS: Final = (
    Alert(
        "InfoplaneNoData",
        "time() - infoplane_last_window_end_timestamp_seconds > 300",
        "1m",
        "warning",
        "No new window of run {{ $labels.run }} for five minutes",
        "The job ended or hangs, the agents cannot reach the broker, or the collector stands still.",
        (Sample(f"infoplane_last_window_end_timestamp_seconds{_RUN}", "0x40"),),
        (Sample(f"infoplane_last_window_end_timestamp_seconds{_RUN}", "0+30x40"),),
        {"run": "a"},
        "No new window of run a for five minutes",
    ),
    Alert(
        "InfoplaneExporterDisconnected",
        "infoplane_exporter_connected == 0",
        "2m",
        "warning",
        "The exporter cannot reach its broker",
        "Nothing on the dashboards is current while this lasts.",
        (Sample("infoplane_exporter_connected", "0x40"),),
        (Sample("infoplane_exporter_connected", "1x40"),),
        {},
        "The exporter cannot reach its broker",
    ),
    Alert(
        "InfoplaneIncompleteWindows",
        "run_stream:infoplane_window_completeness_ratio:min < 0.9",
        "5m",
        "warning",
        "Unit {{ $labels.stream }} of run {{ $labels.run }} is incomplete",
        "Below nine tenths of the expected records arrive: a rank is silent, slow or dropping.",
        (Sample(_STREAM, "0.75x40"),),
        (Sample(_STREAM, "1x40"),),
        {"run": "a", "stream": "tokens"},
        "Unit tokens of run a is incomplete",
    ),
    Alert(
        "InfoplaneDroppedRecords",
        "run:infoplane_agent_dropped_records:rate5m > 0.01 * run:infoplane_agent_sent_records:rate5m",
        "5m",
        "warning",
        "Agents of run {{ $labels.run }} drop more than 1 % of their records",
        "Training is not affected, but windows lose ranks. Look at the broker and the network first.",
        (Sample(_DROPPED, "0+5x40"), Sample(_SENT, "0+100x40")),
        (Sample(_DROPPED, "3x40"), Sample(_SENT, "0+100x40")),
        {"run": "a"},
        "Agents of run a drop more than 1 % of their records",
    ),
    Alert(
        "InfoplaneOverhead",
        "max by (run) (infoplane_agent_overhead_ratio) > 0.01",
        "5m",
        "warning",
        "Agents cost run {{ $labels.run }} more than 1 % of its time",
        "Raise the sampling level or switch taps off; the monitor must not slow training down.",
        (Sample(f"infoplane_agent_overhead_ratio{_RUN}", "0.02x40"),),
        (Sample(f"infoplane_agent_overhead_ratio{_RUN}", "0.004x40"),),
        {"run": "a"},
        "Agents cost run a more than 1 % of its time",
    ),
    Alert(
        "InfoplaneVerdict",
        # A counter that appears with its first verdict has no earlier sample to increase from.
        'increase(infoplane_verdicts_total{severity!="info"}[10m]) > 0\n'
        'or (infoplane_verdicts_total{severity!="info"} > 0\n'
        '    unless infoplane_verdicts_total{severity!="info"} offset 10m)',
        "0m",
        "critical",
        "Run {{ $labels.run }}: {{ $labels.severity }} verdict of {{ $labels.detector }} on {{ $labels.metric }}",
        "A detector concluded that training changed. The live page shows since which step and in which layers.",
        (Sample(_VERDICT, "_x14 1x30"),),
        (Sample(_VERDICT, "1x80"),),
        {"run": "a", "detector": "change", "metric": "von_neumann_entropy_nats"},
        "Run a: critical verdict of change on von_neumann_entropy_nats",
    ),
    Alert(
        "InfoplaneSeriesRejected",
        "sum by (run, reason) (increase(infoplane_series_rejected_total[10m])) > 0",
        "0m",
        "warning",
        "The exporter refuses series of run {{ $labels.run }}: {{ $labels.reason }}",
        "More series than exporter.series_cap, or metrics and labels that this version does not know.",
        (Sample(_REJECTED, "0+10x40"),),
        (Sample(_REJECTED, "10x40"),),
        {"run": "a", "reason": "cap"},
        "The exporter refuses series of run a: cap",
    ),
    Alert(
        "InfoplaneDecodeErrors",
        "sum by (reason) (increase(infoplane_exporter_decode_errors_total[10m])) > 0",
        "0m",
        "warning",
        "The exporter cannot read messages: {{ $labels.reason }}",
        "Something else writes to the topics, or versions do not fit together.",
        (Sample(_ERRORS, "0+1x40"),),
        (Sample(_ERRORS, "4x40"),),
        {"reason": "checksum"},
        "The exporter cannot read messages: checksum",
    ),
    Alert(
        "InfoplaneDeadLetters",
        "sum by (reason) (increase(infoplane_dead_letters_total[10m])) > 0",
        "0m",
        "warning",
        "A stage of the pipeline cannot read messages: {{ $labels.reason }}",
        "They are kept on the topic dead, with topic, partition and offset.",
        (Sample(_DEAD, "0+1x40"),),
        (Sample(_DEAD, "4x40"),),
        {"reason": "checksum"},
        "A stage of the pipeline cannot read messages: checksum",
    ),
)
