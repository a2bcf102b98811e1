"""What the preference demo reports at its end: one object for programs, one table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from infoplane.cli.demo.report import verdict_fields
from infoplane.cli.demo.rlhf.observation import PREFERENCES, ROLLOUTS, RlhfObservation
from infoplane.wire import infoplane_pb2 as pb

_PREFERENCES: Final = f"reward/{PREFERENCES}"
_ROLLOUTS: Final = f"policy/{ROLLOUTS}"
VARIANCE: Final = "reward_posterior_variance_mean"
UNCERTAINTY: Final = "reward_uncertainty_ratio"
INCONSISTENCY: Final = "preference_cyclic_inconsistency_ratio"
_SCALAR: Final = "training_scalar"
GAUGES: Final = (
    (VARIANCE, _PREFERENCES),
    (UNCERTAINTY, _PREFERENCES),
    ("reward_graph_nodes", _PREFERENCES),
    ("reward_graph_edges", _PREFERENCES),
    ("reward_graph_components", _PREFERENCES),
    ("reward_graph_cycle_rank", _PREFERENCES),
    ("reward_graph_giant_component_ratio", _PREFERENCES),
    (INCONSISTENCY, _PREFERENCES),
    (_SCALAR, "reward/loss"),
    (_SCALAR, "reward/agreement_with_honest"),
    ("rollout_reward_mean", _ROLLOUTS),
    (_SCALAR, "policy/true_criterion"),
    ("rollout_entropy_nats", _ROLLOUTS),
    ("rollout_kl_nats", _ROLLOUTS),
)
"""What the table shows, from top to bottom: (metric, stream)."""
_FAR: Final = 3.0  # standard deviations of the null


def report_of(seen: RlhfObservation, planted_step: int, page: str) -> dict[str, Any]:
    """Return the object of `--json`; everything but the planted step and the page comes from the topics."""
    gauges = [_gauge(*one, seen.results(*one)) for one in GAUGES]
    inconsistency = _inconsistency(seen.results(INCONSISTENCY, _PREFERENCES), planted_step)
    return {
        "run": seen.run,
        "runs": list(seen.runs),
        "planted_step": planted_step,
        "gauges": gauges,
        "inconsistency": inconsistency,
        "completeness_min": _completeness(seen),
        "findings": _findings({(g["metric"], g["stream"]): g for g in gauges}, inconsistency),
        "verdicts": [{"run": one.run, **verdict_fields(one)} for one in seen.verdicts.values()],
        "page": page,
    }


def report_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return (gauge, first, middle, last) for the table."""
    rows = [
        (
            g["stream"] if g["metric"] == _SCALAR else g["metric"],
            *(_number(g[when]) for when in ("first", "middle", "last")),
        )
        for g in report["gauges"]
    ]
    before, after = (report["inconsistency"][when] for when in ("before", "after"))
    rows.append(("  its null", _number(before["null_mean"]), "", _number(after["null_mean"])))
    rows.append(("  its z, mean of windows", _number(before["z"]), "", _number(after["z"])))
    # The two belong right below their gauge.
    place = next(k for k, row in enumerate(rows) if row[0] == INCONSISTENCY) + 1
    rows[place:place] = [rows.pop(-2), rows.pop()]
    return rows


def finding_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (finding, answer) for the second table."""
    answers = {True: "yes", False: "no", None: "-"}
    return [(name, answers[found]) for name, found in report["findings"].items()]


def _gauge(metric: str, stream: str, results: Sequence[pb.Result]) -> dict[str, Any]:
    values = [result.value for result in results]
    return {
        "metric": metric,
        "stream": stream,
        "unit": results[0].unit if results else None,
        "windows": len(values),
        "first": values[0] if values else None,
        "middle": values[(len(values) - 1) // 2] if values else None,
        "last": values[-1] if values else None,
    }


def _inconsistency(results: Sequence[pb.Result], planted_step: int) -> dict[str, Any]:
    """Return the gauge against its null, before and after the cyclic raters came in."""
    return {
        "before": _against_null([one for one in results if one.last_step < planted_step]),
        "after": _against_null([one for one in results if one.first_step >= planted_step]),
    }


def _against_null(results: Sequence[pb.Result]) -> dict[str, Any]:
    known = [one for one in results if one.HasField("null_sd") and one.null_sd > 0]
    scores = [(one.value - one.null_mean) / one.null_sd for one in known]
    return {
        "windows": len(results),
        "value": _mean([one.value for one in results]),
        "null_mean": _mean([one.null_mean for one in known]),
        "null_sd": _mean([one.null_sd for one in known]),
        "z": _mean(scores),
        "z_low": min(scores, default=None),
        "z_high": max(scores, default=None),
    }


def _findings(
    gauges: dict[tuple[str, str], dict[str, Any]], inconsistency: dict[str, Any]
) -> dict[str, bool | None]:
    """Return what the run showed; None where a gauge is missing."""
    variance, uncertainty = gauges[VARIANCE, _PREFERENCES], gauges[UNCERTAINTY, _PREFERENCES]
    before, after = inconsistency["before"], inconsistency["after"]
    reward, true = (
        gauges["rollout_reward_mean", _ROLLOUTS],
        gauges[_SCALAR, "policy/true_criterion"],
    )
    entropy = gauges["rollout_entropy_nats", _ROLLOUTS]
    return {
        "posterior_variance_fell": _rises(variance["last"], variance["first"]),
        "uncertainty_fell_before_planting": _rises(uncertainty["middle"], uncertainty["first"]),
        "uncertainty_fell": _rises(uncertainty["last"], uncertainty["first"]),
        "inconsistency_below_null_before_planting": _rises(before["z_high"], -_FAR),
        "inconsistency_above_null_after_planting": _rises(_FAR, after["z_low"]),
        "reward_rose": _rises(reward["first"], reward["last"]),
        "true_criterion_rose": _rises(true["first"], true["last"]),
        "entropy_fell": _rises(entropy["last"], entropy["first"]),
    }


def _rises(low: float | None, high: float | None) -> bool | None:
    return None if low is None or high is None else low < high


def _completeness(seen: RlhfObservation) -> float | None:
    found = [one.completeness for gauge in GAUGES for one in seen.results(*gauge)]
    return min(found, default=None)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
