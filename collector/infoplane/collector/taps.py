"""How tap and unit names are built: which layer a tap belongs to, how taps order, what is a stream of events."""

from __future__ import annotations

FIRST = "embed"
UNIT_PREFIX = "events/"  # of the unit of a stream of events


def layer_of(tap: str) -> str:
    """Return the layer of a tap: `07` of `07/block`, the name itself for taps outside the layers."""
    return tap.partition("/")[0]


def depth_key(tap: str) -> tuple[int, int, str]:
    """Sort key from the input to the output of the model: embed, layers in order, the rest."""
    layer, _, site = tap.partition("/")
    if layer.isdigit():
        return (1, int(layer), site)
    return (0 if tap == FIRST else 2, 0, tap)


def is_residual(tap: str) -> bool:
    """Whether the tap lies on the main stream: the input, block outputs, the final norm, the logits."""
    return tap in ("embed", "final_norm", "logits") or tap.endswith("/block")
