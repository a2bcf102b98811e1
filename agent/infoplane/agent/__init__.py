"""The agent: rides in every rank of a training job, sketches what layers do, and never harms training.

    from infoplane.agent import attach

    monitor = attach(engine)          # a DeepSpeed engine, after deepspeed.initialize
    monitor.log(loss=loss)            # before engine.step()

Needs torch, which is the user's own. `INFOPLANE_ENABLED=0` makes all of it a no-op. Names are loaded on first use, so
that tools which read the settings or a transport do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoplane.agent.monitor import Monitor, attach
    from infoplane.agent.settings import Settings, describe

_HOME = {"Monitor": "monitor", "Settings": "settings", "attach": "monitor", "describe": "settings"}

__all__ = ["Monitor", "Settings", "attach", "describe"]


def __getattr__(name: str) -> Any:
    """Load a public name where it is defined."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
