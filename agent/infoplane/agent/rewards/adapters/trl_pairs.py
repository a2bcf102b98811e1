"""TRL's trainers with pairs of responses: DPO, and the reward trainer. A batch holds all chosen, then all rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from infoplane.agent.rewards.adapters.patch import Arguments, Patch
from infoplane.agent.rewards.contents import Padded
from infoplane.agent.rewards.masks import reduce_tokens

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor

_SCORE = "score"  # the layer that turns embeddings into rewards


def watch_pairs(trainer: Any, monitor: Callable[[], Monitor], patch: Patch) -> None:
    """Observe the pairs, log-probs and implicit rewards of a DPO trainer."""
    pairs = _Pairs(trainer, monitor, patch)
    patch.watch("_compute_loss", pairs.lost, before=pairs.begin, finally_=pairs.end)


def watch_comparisons(trainer: Any, monitor: Callable[[], Monitor], patch: Patch) -> None:
    """Observe the pairs, rewards and embeddings of a reward trainer."""
    comparisons = _Comparisons(trainer, monitor, patch)
    patch.watch(
        "compute_loss", comparisons.lost, before=comparisons.begin, finally_=comparisons.end
    )


class _Forwards:
    """Hooks on a trainer's model and reference, which listen while the loss is computed."""

    def __init__(self, trainer: Any, monitor: Callable[[], Monitor], patch: Patch) -> None:
        self._trainer = trainer
        self._monitor = monitor
        self._patch = patch
        self._has_hooks = False
        self._is_open = False
        self._outputs: list[Any] = []
        self._embeddings: Any = None

    def begin(self) -> None:
        """Listen, if anybody wants to know. Hooks are set here, once: only now is the model the one that is trained."""
        self._is_open = self._monitor().enabled
        if self._is_open and not self._has_hooks:
            self._has_hooks = True
            reference = getattr(self._trainer, "ref_model", None)
            for module in (self._trainer.model, reference):
                if isinstance(module, torch.nn.Module):
                    self._patch.keep(module.register_forward_hook(self._forwarded))
            for name, module in self._trainer.model.named_modules():
                if name.split(".")[-1] == _SCORE:
                    self._patch.keep(module.register_forward_pre_hook(self._embedded))

    def end(self) -> None:
        """Stop to listen, and let go of what was heard."""
        self._is_open = False
        self._outputs, self._embeddings = [], None

    def _forwarded(self, module: Any, args: Any, output: Any) -> None:
        if self._is_open:
            self._outputs.append(output)

    def _embedded(self, module: Any, args: Any) -> None:
        if self._is_open and args:
            self._embeddings = args[0].detach()

    def _place(self) -> dict[str, Any]:
        is_training = self._trainer.model.training
        stream = "preferences" if is_training else "preferences.eval"
        return {"stream": stream, "step": self._trainer.state.global_step}


class _Pairs(_Forwards):
    """DPO."""

    def lost(self, arguments: Arguments, result: Any) -> None:
        """Tell of the pairs in the batch."""
        if not self._is_open:
            return
        inputs = arguments.get(1, "inputs")
        ids, answer = inputs["input_ids"], inputs["completion_mask"] != 0
        (good, bad), (good_mask, bad_mask) = ids.chunk(2), answer.chunk(2)
        question = (inputs["attention_mask"].chunk(2)[0] != 0) & ~good_mask
        policy = self._sums(0, answer)
        if "ref_chosen_logps" in inputs:
            reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            reference = self._sums(1, answer)
        rewards = [self._trainer.beta * (p - r) for p, r in zip(policy, reference, strict=True)]
        self._monitor().observe_preferences(
            Padded(good, question),
            Padded(good, good_mask),
            Padded(bad, bad_mask),
            rewards_chosen=rewards[0],
            rewards_rejected=rewards[1],
            log_probs_chosen=policy[0],
            log_probs_rejected=policy[1],
            reference_log_probs_chosen=reference[0],
            reference_log_probs_rejected=reference[1],
            **self._place(),
        )

    def _sums(self, place: int, answer: torch.Tensor) -> Any:
        """Return the log-probs of chosen and rejected responses, (m,) each, that the `place`-th forward gave."""
        found = self._outputs[place].log_probs.detach()[:, 1 - answer.shape[1] :]
        sums = reduce_tokens("log_probs", found, answer[:, 1:], sums=True)
        assert isinstance(sums, torch.Tensor)
        return sums.chunk(2)


class _Comparisons(_Forwards):
    """The reward trainer, whose texts are prompt and response in one: `chosen` and `rejected` are hashes of both."""

    def lost(self, arguments: Arguments, result: Any) -> None:
        """Tell of the pairs in the batch."""
        if not self._is_open:
            return
        inputs = arguments.get(1, "inputs")
        good, bad = inputs["input_ids"].chunk(2)
        masks = inputs["attention_mask"].chunk(2)
        rewards = self._outputs[0].logits.detach().squeeze(-1).chunk(2)
        features = self._features(inputs["input_ids"])
        self._monitor().observe_preferences(
            [""] * len(good),
            Padded(good, masks[0]),
            Padded(bad, masks[1]),
            rewards_chosen=rewards[0],
            rewards_rejected=rewards[1],
            features_chosen=features[0],
            features_rejected=features[1],
            **self._place(),
        )

    def _features(self, ids: torch.Tensor) -> Any:
        """Return the embeddings (m, d) of chosen and rejected that the rewards were made of; None where unknown."""
        found = self._embeddings
        if found is None or found.ndim != 3:
            return None, None
        # As in transformers: the last token that is not padding.
        places = torch.arange(ids.shape[1], device=ids.device)
        last = (places * (ids != self._trainer.model.config.pad_token_id)).argmax(1)
        with torch.no_grad():
            return found[torch.arange(len(ids), device=ids.device), last].chunk(2)
