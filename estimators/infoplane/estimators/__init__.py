"""Estimators of information, entropy and geometry: pure functions on arrays.

No I/O, no clock, no configuration, no global random state. Names are loaded on first use,
so that importing `infoplane.estimators.state` needs numpy and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoplane.estimators.entropy.activation import activation_dead_ratio, activation_entropy
    from infoplane.estimators.entropy.token import token_entropy
    from infoplane.estimators.estimate import Estimate
    from infoplane.estimators.geometry.usable_information import (
        UsableInformation,
        usable_accuracy,
        usable_information,
        usable_information_bits,
        usable_information_score,
    )
    from infoplane.estimators.geometry.von_neumann import effective_rank, von_neumann_entropy
    from infoplane.estimators.mutual_information.gaussian import gaussian_mi
    from infoplane.estimators.mutual_information.heldout_ksg import (
        heldout_ksg,
        heldout_ksg_labels,
    )
    from infoplane.estimators.mutual_information.ksg import ksg, ksg_labels
    from infoplane.estimators.mutual_information.labels import coarsen_labels, label_entropy

_HOME = {
    "Estimate": "estimate",
    "UsableInformation": "geometry.usable_information",
    "activation_dead_ratio": "entropy.activation",
    "activation_entropy": "entropy.activation",
    "coarsen_labels": "mutual_information.labels",
    "effective_rank": "geometry.von_neumann",
    "gaussian_mi": "mutual_information.gaussian",
    "heldout_ksg": "mutual_information.heldout_ksg",
    "heldout_ksg_labels": "mutual_information.heldout_ksg",
    "ksg": "mutual_information.ksg",
    "ksg_labels": "mutual_information.ksg",
    "label_entropy": "mutual_information.labels",
    "token_entropy": "entropy.token",
    "usable_accuracy": "geometry.usable_information",
    "usable_information": "geometry.usable_information",
    "usable_information_bits": "geometry.usable_information",
    "usable_information_score": "geometry.usable_information",
    "von_neumann_entropy": "geometry.von_neumann",
}

__all__ = [
    "Estimate",
    "UsableInformation",
    "activation_dead_ratio",
    "activation_entropy",
    "coarsen_labels",
    "effective_rank",
    "gaussian_mi",
    "heldout_ksg",
    "heldout_ksg_labels",
    "ksg",
    "ksg_labels",
    "label_entropy",
    "token_entropy",
    "usable_accuracy",
    "usable_information",
    "usable_information_bits",
    "usable_information_score",
    "von_neumann_entropy",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
