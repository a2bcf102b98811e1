"""Routers of mixtures of experts: which experts get the tokens, and how sure the router is.

    NN/router   load (E,) tokens sent to each expert before capacity cuts, probability (E,) sum of router probabilities,
                entropy sum in nats, tokens, nonfinite, passes (1 a step); where known auxiliary (sum of the auxiliary
                loss) and dropped (choices that capacity cut)

| router | load | probability |
|---|---|---|
| DeepSpeed's `TopKGate` | its `exp_counts` | softmax of the logits, computed again without jitter and noise |
| transformers' `...TopKRouter` | counts of its indices | softmax of its logits |
| the same with `e_score_correction_bias` | counts of its indices | sigmoid of its logits, normalised |

Every rank routes its own tokens over all E experts, so loads add over ranks whatever the expert-parallel size is.
Padding tokens are routed, so they count. transformers computes one auxiliary loss for all layers, of the form
E sum_e (load_e / tokens) (probability_e / tokens), which follows from what is sent. What experts compute is not
captured: the output of the mixture is part of the block's tap.

Cost on sampled steps: a few passes over (N, E), and for DeepSpeed 2 N d E flop. No collective, no host sync, no random
state. Sources: Lepikhin et al., "GShard", ICLR 2021; Fedus et al., "Switch Transformers", JMLR 2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from infoplane.agent.layout import Layout
from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.probes.summaries import summed
from infoplane.agent.slots import Slot
from infoplane.wire import infoplane_pb2 as pb

_FIELDS: Final = ("tokens", "entropy", "nonfinite", "auxiliary", "dropped")
_TRANSFORMERS: Final = re.compile(r"Top[kK]Router$")
_DEEPSPEED: Final = "TopKGate"


@dataclass(frozen=True, slots=True)
class _Router:
    """One router: its module, the name of its tap, E, and the prefix of its regions."""

    module: nn.Module
    site: str
    experts: int
    region: str


@dataclass(slots=True)
class _Routing:
    """What a router decided.

    Attributes:
        load: tokens sent to each expert, integer (E,).
        probability: of every token and expert, float32 (N, E).
        auxiliary: its auxiliary loss, a scalar; None where the router does not know.
        dropped: choices that capacity cut, a scalar; None where there is no capacity.
    """

    load: torch.Tensor
    probability: torch.Tensor
    auxiliary: torch.Tensor | None = None
    dropped: torch.Tensor | None = None


class RouterProbe(Probe):
    """Reads the outputs of routers."""

    name = "router"

    def __init__(self, routers: Sequence[_Router]) -> None:
        self._routers = routers

    def reserve(self, layout: Layout) -> None:
        """Reserve load (E,), probability (E,) and sums for every router."""
        for router in self._routers:
            layout.add(f"{router.region}:load", torch.int64, router.experts)
            layout.add(f"{router.region}:probability", torch.float64, router.experts)
            layout.add(f"{router.region}:sums", torch.float64, len(_FIELDS))

    def places(self) -> Iterable[Place]:
        """Return a hook on every router."""
        return [Place(router.module, partial(self._look, router)) for router in self._routers]

    def _look(
        self, router: _Router, scene: Scene, module: nn.Module, args: Any, output: Any
    ) -> None:
        notes = scene.slot.capture.notes.setdefault(self.name, {})
        if router.site in notes:
            return
        read = _read_gate if type(module).__name__ == _DEEPSPEED else _read_transformers
        routing = read(module, args, output, router.experts)
        _write(routing, router.region, scene)
        known = {"auxiliary": routing.auxiliary, "dropped": routing.dropped}
        notes[router.site] = [name for name, value in known.items() if value is not None]

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the routers that ran."""
        known: dict[str, list[str]] = slot.capture.notes[self.name]
        return [
            _tap(router, known[router.site], slot)
            for router in self._routers
            if router.site in known
        ]


def build(context: ProbeContext) -> Probe | str:
    """Return the probe of a model with routers that are understood."""
    routers = [
        _Router(module, context.stack.site(block.index, "router"), experts, f"router:{block.index}")
        for block in context.stack.blocks
        for module, experts in list(_routers(block.module))[:1]
    ]
    return RouterProbe(routers) if routers else "no router of a known kind in the blocks"


def _routers(block: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    for module in block.modules():
        kind = type(module).__name__
        if kind == _DEEPSPEED or _TRANSFORMERS.search(kind):
            weight: Any = _gate_weight(module) if kind == _DEEPSPEED else module.weight
            yield module, int(getattr(weight, "ds_shape", weight.shape)[0])  # ZeRO-3 keeps it apart


def _gate_weight(gate: Any) -> torch.Tensor:
    weight: torch.Tensor = gate.wg.weight
    return weight


def _read_gate(module: nn.Module, args: Any, output: Any, experts: int) -> _Routing:
    """Read DeepSpeed's gate: (l_aux, C, E, indices, locations, gates, counts), or four items with dense masks."""
    logits = args[0].float() @ _gate_weight(module).float().t()
    load = output[-1]
    # A choice that is cut has the index -1; in the dense form it is missing in the mask.
    kept = (output[3] >= 0).sum() if len(output) == 7 else output[2].sum()
    return _Routing(load, logits.softmax(dim=-1), output[0], load.sum() - kept)


def _read_transformers(module: nn.Module, args: Any, output: Any, experts: int) -> _Routing:
    """Read a router of transformers 5: (logits, scores, indices)."""
    logits, indices = output[0], output[-1]
    if logits.shape[-1] != experts or indices.is_floating_point():
        raise TypeError(f"{type(module).__name__} does not return (logits, scores, indices)")
    if hasattr(module, "e_score_correction_bias"):
        score = logits.float().sigmoid()
        probability = score / score.sum(dim=-1, keepdim=True)
    else:
        probability = logits.float().softmax(dim=-1)
    chosen = indices.reshape(-1).long().clamp(0, experts - 1)
    load = torch.zeros(experts, dtype=torch.int64, device=chosen.device)
    load.scatter_add_(0, chosen, torch.ones_like(chosen))
    return _Routing(load, probability.reshape(-1, experts))


def _write(routing: _Routing, region: str, scene: Scene) -> None:
    views = scene.slot.device
    is_finite = routing.probability.isfinite().all(dim=1, keepdim=True)
    held = routing.probability.masked_fill(~is_finite, 0.0)
    tokens = is_finite.sum(dtype=torch.float64)
    zero = torch.zeros_like(tokens)
    views[f"{region}:load"].copy_(routing.load)
    torch.sum(held, dim=0, dtype=torch.float64, out=views[f"{region}:probability"])
    parts = (
        tokens,
        torch.special.entr(held).sum(dtype=torch.float64),
        held.shape[0] - tokens,
        zero if routing.auxiliary is None else routing.auxiliary.detach().double(),
        zero if routing.dropped is None else routing.dropped.double(),
    )
    torch.stack(parts, out=views[f"{region}:sums"])


def _tap(router: _Router, known: Sequence[str], slot: Slot) -> pb.TapSketch:
    sums = dict(zip(_FIELDS, slot.host[f"{router.region}:sums"], strict=True))
    tap = pb.TapSketch(tap=router.site, width=router.experts)
    tap.summaries.extend(
        (
            summed("load", slot.host[f"{router.region}:load"]),
            summed("probability", slot.host[f"{router.region}:probability"]),
            *(summed(name, sums[name]) for name in ("tokens", "entropy", "nonfinite", *known)),
            summed("passes", np.ones(1)),
        )
    )
    return tap
