"""TRL's trainers with groups of rollouts: GRPO and RLOO."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import torch

from infoplane.agent.rewards.adapters.patch import Arguments, Patch
from infoplane.agent.rewards.contents import Padded

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor

_NAME_LENGTH: Final = 40  # of a reward function in the name of its stream


def watch_groups(trainer: Any, monitor: Callable[[], Monitor], patch: Patch) -> None:
    """Observe what `trainer` generates and scores, and each pass of its loss."""
    groups = _Groups(trainer, monitor)
    patch.watch("_calculate_rewards", groups.rewarded)
    patch.watch("_get_per_token_logps_and_entropies", groups.scored)
    for method, after in (
        ("_generate_and_score_completions", groups.generated),
        ("_compute_loss", groups.lost),
    ):
        patch.watch(method, after, before=groups.begin, finally_=groups.end)


class _Groups:
    """What is seen within one generation, or one pass of the loss."""

    def __init__(self, trainer: Any, monitor: Callable[[], Monitor]) -> None:
        self._trainer = trainer
        self._monitor = monitor
        self._is_open = False
        self._passes: list[tuple[Any, Any]] = []
        self._rewards: tuple[torch.Tensor, Any] | None = None

    def begin(self) -> None:
        """Listen, if anybody wants to know."""
        self._is_open = self._monitor().enabled

    def end(self) -> None:
        """Stop to listen, and let go of what was heard."""
        self._is_open = False
        self._passes, self._rewards = [], None

    def scored(self, arguments: Arguments, result: Any) -> None:
        """Keep the log-probs and entropies (m, s) of a forward."""
        if self._is_open:
            self._passes.append((result[0].detach(), result[1]))

    def rewarded(self, arguments: Arguments, result: Any) -> None:
        """Keep this rank's rows of the rewards (all ranks' rows, functions), and its responses' ids without padding."""
        if self._is_open:
            size = len(arguments.get(1, "prompts"))
            start = self._trainer.accelerator.process_index * size
            self._rewards = result[start : start + size], arguments.get(3, "completion_ids_list")

    def generated(self, arguments: Arguments, output: Any) -> None:
        """Tell of the responses that were generated."""
        if not self._is_open:
            return
        assert self._rewards is not None
        by_function, responses = self._rewards
        prompts = Padded(output["prompt_ids"], output["prompt_mask"])
        policy, reference = self._log_probs(output)
        monitor, at = self._monitor(), {"step": self._trainer.state.global_step}
        monitor.observe_rollouts(
            prompts,
            responses,
            rewards=_weighted(by_function, self._trainer.reward_weights),
            log_probs=policy,
            reference_log_probs=reference,
            rollout_log_probs=output.get("sampling_per_token_logps"),
            advantages=output["advantages"],
            mask=_loss_mask(output),
            stream=self._stream("rollouts"),
            **at,
        )
        names = list(_streams(self._trainer.reward_func_names))
        for place, name in enumerate(names if len(names) > 1 else ()):
            rewards, stream = by_function[:, place], self._stream(name)
            monitor.observe_scores(prompts, responses, rewards=rewards, stream=stream, **at)

    def lost(self, arguments: Arguments, result: Any) -> None:
        """Tell of the policy as the loss saw it."""
        if not self._is_open:
            return
        inputs = arguments.get(1, "inputs")
        log_probs, entropies = self._passes[0]
        self._monitor().observe_rollouts(
            Padded(inputs["prompt_ids"], inputs["prompt_mask"]),
            Padded(inputs["completion_ids"], inputs["completion_mask"]),
            log_probs=log_probs,
            entropies=entropies,
            reference_log_probs=inputs.get("ref_per_token_logps"),
            rollout_log_probs=inputs.get("sampling_per_token_logps"),
            advantages=inputs["advantages"],
            mask=_loss_mask(inputs),
            stream=self._stream("rollouts.loss"),
            step=self._trainer.state.global_step,
        )

    def _log_probs(self, output: Any) -> tuple[Any, Any]:
        """Return those of policy and reference at generation, None where the trainer does not compute them."""
        if "old_logps" not in output:
            return output.get("old_per_token_logps"), output.get("ref_per_token_logps")
        # RLOO keeps only sums; its forwards come in this order.
        passes = [log_probs for log_probs, _ in self._passes]
        return passes[0], passes[1] if len(passes) > 1 else None

    def _stream(self, name: str) -> str:
        return name if self._trainer.model.training else f"{name}.eval"


def _weighted(by_function: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the trainer's reward (m,): a function that returned None does not count, NaN if all did."""
    with torch.no_grad():
        total = (by_function * weights.to(by_function.device)).nansum(1)
        return torch.where(by_function.isnan().all(1), torch.nan, total)


def _loss_mask(batch: Any) -> Any:
    mask, tools = batch["completion_mask"], batch.get("tool_mask")
    return mask if tools is None else mask * tools


def _streams(names: Iterable[str]) -> Iterator[str]:
    """Yield a name of a stream for each reward function; functions may share a name, and lambdas do."""
    taken: set[str] = set()
    for place, name in enumerate(names):
        stream = f"scores.{re.sub(r'[^A-Za-z0-9._-]', '_', str(name))[:_NAME_LENGTH]}"
        stream = f"{stream}.{place}" if stream in taken else stream
        taken.add(stream)
        yield stream
