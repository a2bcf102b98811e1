"""Which cells the matrix of layouts has, and which of them CI runs."""

from __future__ import annotations

# Layout -> numbers of ranks.
WORLDS = {
    "zero0": (1, 2),
    "zero1": (2,),
    "zero2": (2,),
    "zero3": (2, 4),
    "offload": (2,),
    "pp2": (2,),
    "pp2dp2": (4,),
    "tp2": (2, 4),
    "sp2": (2, 4),
    "ep1": (2,),
    "ep2": (2, 4),
}
MOE = ("ep1", "ep2")
RECOMPUTE = ("none", "reentrant", "nonreentrant", "ds", "ds_nonreentrant")
COMPILE = ("eager", "aot_eager", "inductor")
# What the frameworks themselves refuse or cannot do, with the reason that the result page states.
ILLEGAL: dict[tuple[str, str, str], str] = {}


def all_flavours(layout: str) -> list[str]:
    """Return every legal RECOMPUTE:COMPILE:ACCUMULATION of a layout, the plain one first."""
    found = ["none:eager:1"]
    for recompute in RECOMPUTE:
        for compiler in COMPILE:
            if reason(layout, recompute, compiler) is None:
                found.append(f"{recompute}:{compiler}:2")
    return found


def reason(layout: str, recompute: str, compiler: str) -> str | None:
    """Return why a cell does not exist; None if it does."""
    for (a, b, c), why in ILLEGAL.items():
        if a in ("*", layout) and b in ("*", recompute) and c in ("*", compiler):
            return why
    return None


# Every layout meets every flavour of recomputation in some cell of its family, and compilation where it is cheap.
CI = {
    "zero0-1": ["none:eager:1"],
    "zero0-2": ["none:eager:1", "ds:eager:2", "nonreentrant:aot_eager:2"],
    "zero1-2": ["none:eager:1", "reentrant:eager:2"],
    "zero2-2": ["none:eager:1", "ds_nonreentrant:eager:2", "none:aot_eager:2"],
    "zero3-2": ["none:eager:1", "nonreentrant:eager:2", "reentrant:eager:2"],
    "zero3-4": ["none:eager:1"],
    "offload-2": ["none:eager:1", "ds:eager:2"],
    "pp2-2": ["none:eager:1", "none:eager:2", "reentrant:eager:2", "nonreentrant:eager:2"],
    "pp2dp2-4": ["none:eager:1", "ds:eager:2", "ds_nonreentrant:eager:2"],
    "tp2-2": ["none:eager:1", "reentrant:eager:2", "ds_nonreentrant:eager:2"],
    "tp2-4": ["none:eager:1"],
    "sp2-2": ["none:eager:1", "nonreentrant:eager:2", "reentrant:eager:2"],
    "sp2-4": ["none:eager:1"],
    "ep1-2": ["none:eager:1"],
    "ep2-2": ["none:eager:1", "nonreentrant:eager:2", "ds:eager:2"],
    "ep2-4": ["none:eager:1"],
}
