"""What `infoplane run` does to the frameworks that a training process imports.

deepspeed               every engine that trains is attached to when `initialize` returns
deepspeed's launcher    INFOPLANE_ variables travel to the other nodes
transformers            `Trainer.train` gets the callback
lightning               `Trainer.fit` gets the callback

Imports of the agent, and with it of torch, wait until there is something to attach to.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from infoplane.agent.run.imports import Patch, PatchFinder

_LAUNCHERS: Final = (
    "torch.distributed.run", "deepspeed.launcher.runner", "deepspeed.launcher.launch",
    "accelerate.commands.launch",
)  # fmt: skip
_places: Final = itertools.count()  # of engines and trainers in this process
_seen: Final[set[str]] = set()  # kinds of what was attached to
_log = logging.getLogger("infoplane.agent")


def install() -> None:
    """Start watching imports, unless switched off; a process that never imports a framework pays nothing else."""
    if os.environ.get("INFOPLANE_ENABLED", "").lower() in {"0", "false", "no", "off"}:
        return
    PatchFinder(PATCHES).install()
    atexit.register(_complain)


def patch_deepspeed(module: ModuleType) -> None:
    """Attach to what `deepspeed.initialize` returns."""
    original = module.initialize

    @functools.wraps(original)
    def initialize(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        _guarded(_attach_engine, result)
        return result

    module.initialize = initialize  # type: ignore[attr-defined]


def patch_deepspeed_launcher(module: ModuleType) -> None:
    """Add our prefix to those that the multi-node launcher exports; PYTHONPATH it exports anyway."""
    module.EXPORT_ENVS.append("INFOPLANE_")


def patch_transformers(module: ModuleType) -> None:
    """Give every Trainer the callback when it begins to train, and close it when training raises."""

    def add(trainer: Any) -> Any:
        from infoplane.agent.frameworks.huggingface import InfoplaneCallback

        callbacks = trainer.callback_handler.callbacks
        ours = next((one for one in callbacks if isinstance(one, InfoplaneCallback)), None)
        if ours is None:
            # An engine that comes up during training is named when it does.
            has_engine = getattr(trainer, "is_deepspeed_enabled", False)
            ours = InfoplaneCallback(**({} if has_engine else _name_of_next()))
            trainer.add_callback(ours)
        _seen.add("Trainer")
        return ours

    _around(module.Trainer, "train", add)


def patch_lightning(module: ModuleType) -> None:
    """Give every Trainer the callback when `fit` begins."""

    def add(trainer: Any) -> None:
        from infoplane.agent.frameworks.lightning import InfoplaneCallback

        if not any(isinstance(one, InfoplaneCallback) for one in trainer.callbacks):
            trainer.callbacks.append(InfoplaneCallback(**_name_of_next()))
        _seen.add("Lightning")

    _around(module.Trainer, "fit", add)


PATCHES: Final[dict[str, Patch]] = {
    "deepspeed": patch_deepspeed,
    "deepspeed.launcher.runner": patch_deepspeed_launcher,
    "transformers.trainer": patch_transformers,
    "lightning.pytorch.trainer.trainer": patch_lightning,
    "pytorch_lightning.trainer.trainer": patch_lightning,
}


def _around(owner: Any, name: str, before: Callable[[Any], Any]) -> None:
    """Replace a method: `before(self)` first, and what it returned is closed if the method raises."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        callback = _guarded(before, self)
        try:
            return original(self, *args, **kwargs)
        except BaseException:
            if callback is not None:
                callback.monitor.close()
            raise

    setattr(owner, name, method)


def _attach_engine(returned: Any) -> None:
    """Attach to an engine that trains; a Lightning module is left to the callback, which knows its network."""
    engine = returned[0]
    kinds = {kind.__name__ for kind in type(engine.module).__mro__}
    if "LightningModule" in kinds or not _trains(engine):
        return
    from infoplane.agent.monitor import attach

    # Held by the engine: a second attach must find this one, and both must end together.
    engine._infoplane_monitor = attach(engine, **_name_of_next())
    _seen.add("DeepSpeed")


def _trains(engine: Any) -> bool:
    """Return whether a torch optimizer is inside; engines of reference and reward models have none."""
    found = getattr(engine, "optimizer", None)
    while found is not None:
        if hasattr(found, "param_groups") and hasattr(found, "step"):
            return True
        found = getattr(found, "optimizer", None)
    return False


def _name_of_next() -> dict[str, Any]:
    """Return the argument `run` for what is attached next: two in one process may not share a name."""
    place, name = next(_places), os.environ.get("INFOPLANE_RUN")
    return {"run": f"{name}-{place}"} if name and place else {}


def _guarded(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except Exception:  # noqa: BLE001 - training goes on
        _log.exception("infoplane: not attached")
        return None


def _complain() -> None:
    """Say at exit that a training process was not watched, as it looks like success otherwise."""
    is_child = multiprocessing.parent_process() is not None
    if "torch" not in sys.modules or _seen or is_child or _is_launcher():
        return
    _log.warning(
        "infoplane: nothing was watched in process %d: no DeepSpeed engine, no Hugging Face or Lightning Trainer "
        "has trained in it. Other loops need a line of code: docs/attach.md",
        os.getpid(),
    )


def _is_launcher() -> bool:
    """Return whether this process starts the ranks and is none itself."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    names = {*sys.modules, getattr(main, "name", "")}
    return "RANK" not in os.environ and not names.isdisjoint(_LAUNCHERS)
