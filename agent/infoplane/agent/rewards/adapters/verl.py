"""veRL: the driver's batch, once advantages are computed. Checked with 0.9.1.

The trainer of version 1 keeps its columns as nested tensors in a transfer queue, the older one as padded tensors in a
`DataProto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from infoplane.agent.rewards.adapters.attempt import attempt
from infoplane.agent.rewards.contents import Padded

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor

_NUMBERS: Final = {
    "log_probs": "old_log_probs",
    "reference_log_probs": "ref_log_prob",
    "rollout_log_probs": "rollout_log_probs",
    "advantages": "advantages",
    "values": "values",
}
FIELDS: Final = ("prompts", "responses", "response_mask", "rm_scores", *_NUMBERS.values())
"""What to ask a transfer queue for."""


def observe_batch(
    monitor: Monitor, data: Any, *, stream: str = "rollouts", step: int | None = None
) -> None:
    """Tell `monitor` of the rollouts in `data`, B responses; never raises.

    Fields: `prompts`, `responses`, `response_mask`, `token_level_scores` (else `rm_scores`) and numbers of tokens; of
    a DataProto also `attention_mask` (B, P + R). The reward is the sum of the scores, before the KL penalty. What is
    missing is left out.

    Args:
        monitor: who is told.
        data: a DataProto, or a TensorDict of nested tensors.
        stream: name of the source.
        step: step that the events belong to; the step of the last training forward by default.
    """
    attempt("veRL's batch", _observe, monitor, data, stream, step)


def _observe(monitor: Monitor, data: Any, stream: str, step: int | None) -> None:
    told = dict(getattr(data, "batch", data).items())
    prompts, responses = _contents(told)
    scores = _padded(told.get("token_level_scores", told.get("rm_scores")))
    monitor.observe_rollouts(
        prompts,
        responses,
        rewards=None if scores is None else scores.sum(1),
        mask=_padded(told["response_mask"]),
        stream=stream,
        step=step,
        **{name: _padded(told.get(field)) for name, field in _NUMBERS.items()},
    )


def _contents(told: Mapping[str, Any]) -> tuple[Any, Any]:
    prompts, responses = told["prompts"], told["responses"]
    if prompts.is_nested:
        return list(prompts.unbind()), list(responses.unbind())
    attention, width = told["attention_mask"], prompts.shape[1]
    return Padded(prompts, attention[:, :width]), Padded(responses, attention[:, width:])


def _padded(column: Any) -> Any:
    return column.to_padded_tensor(0) if column is not None and column.is_nested else column
