"""DeepSpeed-Chat: the dict that `DeepSpeedPPOTrainer.generate_experience` returns.

Field names are those of DeepSpeedExamples at 3b458596.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infoplane.agent.rewards.adapters.attempt import attempt
from infoplane.agent.rewards.contents import Padded

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor


def observe_experience(
    monitor: Monitor,
    experience: Mapping[str, Any],
    *,
    stream: str = "rollouts",
    step: int | None = None,
) -> None:
    """Tell `monitor` of the rollouts in `experience`, B responses; never raises.

    Call it before `train_rlhf`, which writes into `value`. Fields: `prompts` (., P), `input_ids` and `attention_mask`
    (B, T), `logprobs`, `ref_logprobs` and `value` (B, T - 1), where column j stands for token j + 1; `rewards` (B,).

    Args:
        monitor: who is told.
        experience: one batch.
        stream: name of the source.
        step: step that the events belong to; the step of the last training forward by default.
    """
    attempt("DeepSpeed-Chat's experience", _observe, monitor, experience, stream, step)


def _observe(
    monitor: Monitor, experience: Mapping[str, Any], stream: str, step: int | None
) -> None:
    ids, attention = experience["input_ids"], experience["attention_mask"]
    # Rows without an answer are dropped from `input_ids`, but not from `prompts`: only the width holds.
    start = experience["prompts"].shape[1]
    monitor.observe_rollouts(
        Padded(ids[:, :start], attention[:, :start]),
        Padded(ids[:, start:], attention[:, start:]),
        rewards=experience["rewards"],
        log_probs=experience["logprobs"][:, start - 1 :],
        reference_log_probs=experience["ref_logprobs"][:, start - 1 :],
        values=experience["value"][:, start - 1 :],
        mask=attention[:, start:],
        stream=stream,
        step=step,
    )
