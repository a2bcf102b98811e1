"""Hugging Face Trainer, and what builds on it such as TRL: a callback.

    from infoplane.agent.frameworks.huggingface import InfoplaneCallback

    Trainer(..., callbacks=[InfoplaneCallback(run="my-run")])

Checked with transformers 5.24, accelerate 1.15, trl 1.16.
"""

from __future__ import annotations

import numbers
import weakref
from typing import Any, Final

from torch import nn
from transformers import TrainerCallback

from infoplane.agent.frameworks.deepspeed import is_engine
from infoplane.agent.monitor import Monitor, attach

# Two callbacks in one trainer would share the monitor; only the first may count its steps.
_led: Final[weakref.WeakSet[Monitor]] = weakref.WeakSet()


class InfoplaneCallback(TrainerCallback):
    """Watches what the Trainer trains, from `on_train_begin` to `on_train_end`.

    Steps are `state.global_step`, also after a resume; micro-batch 0 of a sampled step is sketched, evaluation is
    not. Numbers that the Trainer logs become scalars of the same names. A signed `stop` ends training as
    `control.should_training_stop` does, a signed `checkpoint` becomes `control.should_save`.

    Args:
        keywords: as of `infoplane.agent.attach`, e.g. run="x" or announce=plan. A wrong one raises
            ConfigurationError when training begins; nothing else raises.

    Attributes:
        monitor: the handle; a disabled one before training begins.
    """

    def __init__(self, **keywords: Any) -> None:
        self.monitor = Monitor()
        self._keywords = keywords
        self._leads = self._must_save = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Attach to the DeepSpeed engine around the model, or to the model."""
        self.monitor.close()  # a training that ended by an exception left it open
        self._must_save = False
        model, optimizer = given["model"], given["optimizer"]
        known: dict[str, Any] = {"first_step": state.global_step, "on_checkpoint": self._save}
        engine = engine_around(model)
        if engine is None:  # an engine's adapter knows the optimizer
            known["optimizers"] = [getattr(optimizer, "optimizer", optimizer)]
        self.monitor = attach(model if engine is None else engine, **(known | self._keywords))
        self._leads = self.monitor not in _led
        _led.add(self.monitor)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the optimizer step; a DeepSpeed engine has said so already, and this changes nothing."""
        if self._leads:
            self.monitor.step()
        if self.monitor.should_stop:
            control.should_training_stop = True
        if self._must_save:
            self._must_save, control.should_save = False, True

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Publish the numbers among the logs, with the next sampled step that ends."""
        if self._leads:
            logs = given.get("logs") or {}
            self.monitor.log({k: v for k, v in logs.items() if isinstance(v, numbers.Real)})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Send what is left."""
        self.monitor.close()

    def _save(self, finished: int) -> None:
        self._must_save = True


def engine_around(module: Any) -> Any:
    """Return the DeepSpeed engine whose forward hooks `module` carries; None without one.

    The Trainer does not hand its engine to callbacks. The engine's hooks are closures over it. Where a version of
    DeepSpeed has none, the module is watched as a plain one, which differs in the settings' section only.
    """
    hooks = module._forward_pre_hooks.values() if isinstance(module, nn.Module) else ()
    for hook in hooks:
        for cell in getattr(hook, "__closure__", None) or ():
            found = getattr(cell, "cell_contents", None)
            if is_engine(found) and getattr(found, "module", None) is module:
                return found
    return None
