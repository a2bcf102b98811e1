"""Accelerate: a loop of one's own around `accelerator.prepare`.

    from infoplane.agent.frameworks.accelerate import attach_to

    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    monitor = attach_to(accelerator, model, optimizer)

Checked with accelerate 1.15. Accelerate itself is not imported.
"""

from __future__ import annotations

from typing import Any

from infoplane.agent.frameworks.deepspeed import is_engine
from infoplane.agent.monitor import Monitor, attach


def attach_to(accelerator: Any, model: Any, optimizer: Any, **keywords: Any) -> Monitor:
    """Watch a prepared model, and return the handle; steps are found without `monitor.step()`.

    A step is over when the prepared optimizer's `step` returns and gradients were synchronised: not on the earlier
    micro-batches of an accumulation, but also when the scaler skipped the update. Under DeepSpeed the engine counts.

    Args:
        accelerator: the Accelerator.
        model: what `prepare` returned for the model: a DeepSpeed engine, or a module with or without wrappers.
        optimizer: what `prepare` returned for the optimizer.
        keywords: as of `infoplane.agent.attach`; give `first_step` when the loop resumes without DeepSpeed.

    Raises:
        ConfigurationError: `keywords` are wrong. Nothing else raises.
    """
    if is_engine(model):
        return attach(model, **keywords)
    inner = getattr(optimizer, "optimizer", optimizer)
    known: dict[str, Any] = {"optimizers": [inner]}
    monitor = attach(_unwrapped(accelerator, model), **(known | keywords))
    if monitor.enabled and optimizer.__dict__.get("_infoplane_monitor") is not monitor:
        _follow(optimizer, monitor)
    return monitor


def _unwrapped(accelerator: Any, model: Any) -> Any:
    try:
        return accelerator.unwrap_model(model)
    except Exception:  # noqa: BLE001 - attach says what it cannot watch
        return model


def _follow(optimizer: Any, monitor: Monitor) -> None:
    """Replace `optimizer.step` on the instance.

    torch's own step hooks do not serve: the prepared optimizer has none, and the one inside it is not called for a
    skipped update, which other frameworks count.
    """
    original = optimizer.step

    def step(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if optimizer.gradient_state.sync_gradients:
            monitor.step()
        return result

    optimizer.step = step
    optimizer._infoplane_monitor = monitor
