"""TRL: the GRPO, RLOO, DPO and reward trainers. Checked with 1.16.

The trainers are recognised by the names of their classes, so TRL is not imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from infoplane.agent.rewards.adapters.patch import Patch
from infoplane.agent.rewards.adapters.trl_groups import watch_groups
from infoplane.agent.rewards.adapters.trl_pairs import watch_comparisons, watch_pairs

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor

Watch: TypeAlias = "Callable[[Any, Callable[[], Monitor], Patch], None]"


class HasMonitor(Protocol):
    """The callback for the Hugging Face Trainer, whose monitor exists once training begins."""

    @property
    def monitor(self) -> Monitor:
        """The handle."""
        ...


_WATCHERS: Final[dict[str, Watch]] = {
    "GRPOTrainer": watch_groups,
    "RLOOTrainer": watch_groups,
    "DPOTrainer": watch_pairs,
    "RewardTrainer": watch_comparisons,
}
_UNDO: Final = "_infoplane_undo"  # attribute of an observed trainer
_log = logging.getLogger("infoplane.agent")


def observe_trainer(trainer: Any, source: Monitor | HasMonitor) -> Callable[[], None]:
    """Tell a monitor what a trainer of TRL knows about rewards; return what undoes it.

    Methods of the instance are wrapped. They return what they returned before, and no exception of the agent reaches
    the trainer. Every rank tells of its own rows. A second call for one trainer returns the first one's undo.

        callback = InfoplaneCallback(run="my-run")
        trainer = GRPOTrainer(..., callbacks=[callback])
        observe_trainer(trainer, callback)
        trainer.train()

    Streams: of GRPO and RLOO `rollouts` (rewards, advantages, and log-probs where the trainer computes them when it
    generates), `rollouts.loss` (log-probs and entropies of each pass of the loss) and, with several reward functions,
    `scores.<name>`; of DPO and the reward trainer `preferences`. Evaluations go to the same names with `.eval`. Steps
    are `state.global_step`.

    Args:
        trainer: of TRL, before `train`.
        source: the monitor, or the callback that will have one.
    """
    known: Callable[[], None] | None = getattr(trainer, _UNDO, None)
    if known is not None:
        return known
    patch = Patch(trainer)
    try:
        watch = _watcher(trainer)
        if watch is None:
            return patch.undo
        watch(trainer, lambda: _monitor_of(source), patch)
    except Exception as error:  # noqa: BLE001 - training goes on
        patch.undo()
        name = type(trainer).__name__
        _log.warning("infoplane: %s is not observed: %s", name, type(error).__name__)
        return patch.undo

    def undo() -> None:
        patch.undo()
        vars(trainer).pop(_UNDO, None)

    setattr(trainer, _UNDO, undo)
    return undo


def _monitor_of(source: Any) -> Monitor:
    found: Monitor = getattr(source, "monitor", source)
    return found


def _watcher(trainer: Any) -> Watch | None:
    for kind in type(trainer).__mro__:
        if kind.__name__ in _WATCHERS:
            return _WATCHERS[kind.__name__]
    name, known = type(trainer).__name__, ", ".join(_WATCHERS)
    _log.warning("infoplane: %s is not observed: expected one of %s", name, known)
    return None
