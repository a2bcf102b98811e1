"""The policy: which conditions lead to which actions, and how often. One versioned schema.

Checks that concern one key stand in the validator of that key, so that an error names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from infoplane.collector.metrics import metric_named
from infoplane.wire.actions import ACTIONS, Action
from infoplane.wire.errors import UndefinedMetricError

DRY_RUN: Final = "dry_run"
ENFORCE: Final = "enforce"
SEVERITIES: Final = ("info", "warning", "critical")
HASH_DIGITS: Final = 16


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # YAML reads yes and on as one; pydantic would read that as 1.0
        raise ValueError("a number")
    return value


def _known_metric(name: str) -> str:
    try:
        return metric_named(name).name
    except UndefinedMetricError:
        raise ValueError("a metric of `infoplane metrics list`") from None


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
MetricName = Annotated[str, AfterValidator(_known_metric)]
Windows = Annotated[int, BeforeValidator(_number), Field(ge=1, le=100_000)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VerdictMatch(_Strict):
    """Which verdicts a rule answers. What is left out matches everything."""

    detector: Literal["change", "limit"] | None = Field(
        None, description="change: moved against its own past; limit: a hard limit, or not a number"
    )
    metric: MetricName | None = Field(None, description="metric that the verdict is about")
    severity: Literal["info", "warning", "critical"] | None = Field(
        None, description="this severity or a graver one"
    )
    pattern: Literal["all", "late", "half"] | None = Field(
        None, description="which blocks moved together"
    )


class Condition(_Strict):
    """What must hold: either `verdict`, or `metric` with `above` or `below`."""

    verdict: VerdictMatch | None = Field(None, description="a detector has spoken")
    metric: MetricName | None = Field(None, description="metric of the registry")
    labels: dict[str, str] = Field(
        default_factory=dict, description="labels that a series must carry; each series votes alone"
    )
    above: Number | None = Field(None, description="a window votes while the value is greater")
    below: Number | None = Field(None, description="a window votes while the value is smaller")
    of: Windows = Field(3, le=100, description="windows of a series that are looked at")
    agree: Windows = Field(3, description="votes needed among them")

    @field_validator("labels")
    @classmethod
    def _labels_of_metric(cls, labels: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        metric = info.data.get("metric")
        legal = metric_named(metric).labels if metric else ()
        if not set(labels) <= set(legal):
            wanted = f"labels of {metric}: {', '.join(legal) or 'it has none'}"
            raise ValueError(wanted if metric else "labels only where there is a metric")
        return labels

    @field_validator("agree")
    @classmethod
    def _agree_within_of(cls, agree: int, info: ValidationInfo) -> int:
        if agree > info.data.get("of", agree):
            raise ValueError(f"at most of = {info.data['of']}")
        return agree

    @model_validator(mode="after")
    def _one_kind(self) -> Condition:
        limits = [limit for limit in (self.above, self.below) if limit is not None]
        if (self.verdict is None) == (self.metric is None):
            raise ValueError("either verdict, or metric with above or below")
        if len(limits) != (1 if self.metric else 0):
            raise ValueError("exactly one of above and below beside metric, none beside verdict")
        return self

    @property
    def threshold(self) -> float:
        """The value that a window is compared with; NaN for a condition on verdicts."""
        return next((one for one in (self.above, self.below) if one is not None), float("nan"))

    def describe(self) -> str:
        """Return the condition in words."""
        if self.verdict is not None:
            given = self.verdict.model_dump(exclude_none=True)
            told = ", ".join(f"{key} {value}" for key, value in given.items())
            return f"verdict ({told})" if told else "any verdict"
        labels = ",".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        side = "above" if self.above is not None else "below"
        series = f"{self.metric}{{{labels}}}" if labels else self.metric
        return f"{series} {side} {self.threshold:g} in {self.agree} of {self.of} windows"


class Rule(_Strict):
    """One rule: when, what, how far and how often."""

    name: str = Field(
        pattern=r"^[a-z0-9-]{1,64}$", description="unique; part of every command's id"
    )
    when: Condition
    action: str = Field(description=f"one of {', '.join(ACTIONS)}")
    value: Number | None = Field(
        None, validate_default=True, description="of the action, where it has one"
    )
    bounds: tuple[Number, Number] | None = Field(
        None, description="smallest and largest value accepted; the action's own by default"
    )
    cooldown_windows: Windows = Field(
        20, description="windows in which the rule stays silent after it acted"
    )
    budget: Windows = Field(1, le=1000, description="times that the rule may act in one attempt")
    expires_s: Annotated[float, BeforeValidator(_number), Field(gt=0, le=86_400)] = Field(
        60.0, description="seconds, on the log's clock, after which the run refuses the command"
    )
    only_if_value: Number | None = Field(
        None, description="precondition: the action's value in force at the run must be this one"
    )
    min_n: Annotated[int, BeforeValidator(_number), Field(ge=0)] = Field(
        0, description="results of fewer samples do not vote"
    )

    @field_validator("action")
    @classmethod
    def _known_action(cls, action: str) -> str:
        if action not in ACTIONS:
            raise ValueError(f"one of {', '.join(ACTIONS)}")
        return action

    @field_validator("value")
    @classmethod
    def _value_of_action(cls, value: float | None, info: ValidationInfo) -> float | None:
        action = _action(info)
        if action is None:
            return value
        if not takes_value(action):
            if value is not None:
                raise ValueError(f"no value: {action.name} takes none")
        elif value is None or not action.allows(value):
            kind = "a whole number" if action.is_integer else "a number"
            raise ValueError(f"{kind} within {action.low:g} .. {action.high:g}: {action.meaning}")
        return value

    @field_validator("bounds")
    @classmethod
    def _bounds_around_value(
        cls, bounds: tuple[float, float] | None, info: ValidationInfo
    ) -> tuple[float, float] | None:
        action, value = _action(info), info.data.get("value")
        if bounds is None or action is None:
            return bounds
        if not takes_value(action):
            raise ValueError(f"no bounds: {action.name} takes no value")
        if not action.low <= bounds[0] <= bounds[1] <= action.high:
            raise ValueError(f"[low, high] within {action.low:g} .. {action.high:g}")
        if value is not None and not bounds[0] <= value <= bounds[1]:
            raise ValueError(f"[low, high] around value = {value:g}")
        return bounds

    @field_validator("only_if_value")
    @classmethod
    def _something_in_force(cls, value: float | None, info: ValidationInfo) -> float | None:
        action = _action(info)
        if value is not None and action is not None and not takes_value(action):
            raise ValueError(f"no precondition on a value: {action.name} takes none")
        return value

    @property
    def sent_value(self) -> float:
        """The value as a command carries it: 0 where the action has none."""
        return self.value if self.value is not None else 0.0

    @property
    def sent_bounds(self) -> tuple[float, float]:
        """The bounds as a command carries them."""
        action = ACTIONS[self.action]
        return self.bounds if self.bounds is not None else (action.low, action.high)


class Policy(_Strict):
    """All rules of a controller."""

    version: Literal[1] = Field(description="version of this schema")
    mode: Literal["dry_run", "enforce"] = Field(
        "dry_run", description="dry_run proposes only; enforce also sends signed commands"
    )
    budget: Windows = Field(
        4, le=1000, description="times that all rules together may act in one attempt"
    )
    min_completeness: Share = Field(
        0.9, description="results of less complete windows neither vote nor act"
    )
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=100)

    @field_validator("rules")
    @classmethod
    def _names_are_unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names = [rule.name for rule in rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a name of its own for every rule, not twice {', '.join(twice)}")
        return rules

    @property
    def hash(self) -> str:
        """Return what the policy decides as 16 hex digits: equal for a dry run and its enforcement."""
        content: Mapping[str, Any] = self.model_dump(mode="json", exclude={"mode"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]

    def as_dry_run(self) -> Policy:
        """Return the same policy, only proposing."""
        return self.model_copy(update={"mode": DRY_RUN})


def takes_value(action: Action) -> bool:
    """Whether a command with this action carries a value."""
    return action.low < action.high


def _action(info: ValidationInfo) -> Action | None:
    """Return the rule's action while its later fields are checked, None if it was wrong itself."""
    return ACTIONS.get(info.data.get("action", ""))
