"""The list of probes, and which of them a model gets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from infoplane.agent.probes import (
    activation,
    attention,
    gradients,
    head,
    joint,
    router,
    runs,
    weights,
)
from infoplane.agent.probes.base import Probe, ProbeContext

Build = Callable[[ProbeContext], Probe | str]

# name -> builds the probe, or says in a few words why this model has none.
PROBES: Final[dict[str, Build]] = {
    "attention": attention.build,
    "router": router.build,
    "gradients": gradients.build,
    "head": head.build,
    "weights": weights.build,
    "activation": activation.build,
    "joint": joint.build,
    "runs": runs.build,
}
# What is on where the setting says `auto`, by profile.
AUTO: Final[dict[str, frozenset[str]]] = {
    "light": frozenset(),
    "standard": frozenset({"attention", "router"}),
    "deep": frozenset(PROBES),
}
_log = logging.getLogger("infoplane.agent")


def build_probes(context: ProbeContext) -> tuple[list[Probe], dict[str, str]]:
    """Return the probes that are on, and why others are missing, by name. A probe that cannot be built ends itself."""
    built: list[Probe] = []
    missing: dict[str, str] = {}
    for name, build in PROBES.items():
        choice = getattr(context.settings.probes, name)
        if choice == "off" or (choice == "auto" and name not in AUTO[context.settings.profile]):
            missing[name] = "off in the settings" if choice == "off" else "off in this profile"
            continue
        try:
            found = build(context)
        except Exception as error:  # noqa: BLE001 - training goes on
            _log.warning("infoplane: probe %s cannot be built: %r", name, error)
            found = f"failed: {error!r}"
        if isinstance(found, str):
            missing[name] = found
        else:
            built.append(found)
    return built, missing
