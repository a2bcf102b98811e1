"""Lightning: a callback, for `lightning.pytorch` and `pytorch_lightning` alike.

    from infoplane.agent.frameworks.lightning import InfoplaneCallback

    Trainer(..., callbacks=[InfoplaneCallback(run="my-run")])

Checked with Lightning 2.6.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer

from infoplane.agent.monitor import Monitor, attach

_NAMES: Final = ("lightning.pytorch", "pytorch_lightning")


def _callback_class() -> Any:
    """Return `Callback` of the package that is loaded, or else installed; trainers of both take either one."""
    loaded = [name for name in _NAMES if name in sys.modules]
    installed = [name for name in _NAMES if find_spec(name.partition(".")[0])]
    return import_module([*loaded, *installed, _NAMES[0]][0]).Callback


class InfoplaneCallback(_callback_class()):  # type: ignore[misc] # known at run time only
    """Watches a LightningModule's network while `fit` runs.

    A step is over when a batch has moved `trainer.global_step`. The loss that `training_step` returns is published
    as `loss`, what the module logs with `self.log` under its own names every `log_every_n_steps` steps.

    Args:
        module: name of the child to watch, e.g. "model". By default the only child with parameters, or else the
            LightningModule itself, whose forward must then be called as `self(...)`.
        keywords: as of `infoplane.agent.attach`. A wrong one raises ConfigurationError when training
            starts; nothing else raises.

    Attributes:
        monitor: the handle; a disabled one before training starts.
    """

    def __init__(self, module: str | None = None, **keywords: Any) -> None:
        super().__init__()
        self.monitor = Monitor()
        self._module = module
        self._keywords = keywords
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach; a checkpoint has been loaded by now."""
        self.monitor.close()
        self._step = int(trainer.global_step)
        optimizers = [one for one in trainer.optimizers if isinstance(one, Optimizer)]
        known: dict[str, Any] = {"first_step": self._step, "optimizers": optimizers}
        network = pl_module.get_submodule(self._module) if self._module else network_of(pl_module)
        self.monitor = attach(network, **(known | self._keywords))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the step if this batch's backward was followed by the optimizer."""
        if trainer.global_step == self._step:
            return
        self._step = int(trainer.global_step)
        self._log(trainer, outputs)
        self.monitor.step()
        if self.monitor.should_stop:
            trainer.should_stop = True

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Send what is left."""
        self.monitor.close()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Send what is left."""
        self.monitor.close()

    def _log(self, trainer: Any, outputs: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor):
            self.monitor.log(loss=loss)
        if self._step % max(1, trainer.log_every_n_steps) == 0:
            self.monitor.log(trainer.callback_metrics)


def network_of(module: nn.Module) -> nn.Module:
    """Return the only child with parameters if it holds all of them and can be called, `module` otherwise."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    own = next(module.parameters(recurse=False), None) is not None
    is_whole = own or len(children) != 1 or isinstance(children[0], nn.ModuleList | nn.ModuleDict)
    return module if is_whole else children[0]
