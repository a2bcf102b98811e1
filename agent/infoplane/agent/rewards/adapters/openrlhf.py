"""OpenRLHF: an `Experience`, as `RemoteExperienceMaker.make_experience_batch` returns it. Checked with 0.11.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infoplane.agent.rewards.adapters.attempt import attempt
from infoplane.agent.rewards.contents import Padded

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor


def observe_experience(
    monitor: Monitor, experience: Any, *, stream: str = "rollouts", step: int | None = None
) -> None:
    """Tell `monitor` of the rollouts in `experience`, B responses; never raises.

    Fields: `sequences` (B, T), `attention_mask` (B, T), `action_mask` and all numbers of tokens (B, A), where column j
    stands for token T - A + j; `rewards` (B,). Fields that are None are left out.

    Args:
        monitor: who is told.
        experience: one micro-batch.
        stream: name of the source.
        step: step that the events belong to; the step of the last training forward by default.
    """
    attempt("OpenRLHF's Experience", _observe, monitor, experience, stream, step)


def _observe(monitor: Monitor, experience: Any, stream: str, step: int | None) -> None:
    actions, ids = experience.action_mask, experience.sequences
    width = actions.shape[1]
    monitor.observe_rollouts(
        experience.prompts or _prompts(experience),
        Padded(ids[:, -width:], actions),
        rewards=experience.rewards,
        log_probs=experience.action_log_probs,
        reference_log_probs=experience.base_action_log_probs,
        rollout_log_probs=experience.rollout_log_probs,
        advantages=experience.advantages,
        values=experience.values,
        mask=actions,
        stream=stream,
        step=step,
    )


def _prompts(experience: Any) -> Padded:
    """Return the tokens before the first action, for experiences that have lost their texts."""
    width = experience.action_mask.shape[1]
    is_prompt = experience.attention_mask != 0
    is_prompt[:, -width:] &= experience.action_mask.cumsum(1) == 0
    return Padded(experience.sequences, is_prompt)
