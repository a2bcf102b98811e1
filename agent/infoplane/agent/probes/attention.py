"""Probe `attention`: the entropy of every head of every attention layer, on a few query rows.

The m = min(16, k) positions with the smallest row keys are looked at in every sequence of the micro-batch, equal for
all layers and for all ranks that hold parts of it. Queries and keys are taken on their way into the attention function;
nothing is asked of the model, and no attention weights are kept. Each rank of a tensor-parallel or Ulysses group has
heads of its own: it sends arrays of all H heads with zeros where it has none, so the arrays of all ranks add up.

Taps `NN/heads`, summaries that add: `attention_entropy.FIELDS`, float32 (H,).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import torch
from torch import nn

from infoplane.agent import attention_entropy as entropy
from infoplane.agent.attention_calls import (
    Intercept,
    intercept,
    named_arguments,
    registry_of,
    ulysses_of,
)
from infoplane.agent.attention_entropy import FIELDS, Visibility
from infoplane.agent.guard import in_backward
from infoplane.agent.layout import Layout
from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.probes.summaries import summed
from infoplane.agent.roles import Spread
from infoplane.agent.sampling import RowSampling
from infoplane.agent.slots import Slot
from infoplane.wire import infoplane_pb2 as pb

MAX_ROWS: Final = 16


@dataclass(frozen=True, slots=True)
class Site:
    """One attention layer: its tap, its module, and H, its heads on all ranks together."""

    tap: str
    module: nn.Module
    heads: int


class AttentionProbe(Probe):
    """Takes note of queries and keys on their way, and summarises the entropies when the layer is done."""

    name: ClassVar[str] = "attention"
    spread: ClassVar[Spread] = Spread.SHARDS

    def __init__(
        self, sites: Sequence[Site], intercepts: Sequence[Intercept], context: ProbeContext
    ) -> None:
        self._sites = {id(site.module): site for site in sites}
        self._intercepts = intercepts
        self._at = context.coordinates
        # All ranks of a group take the same positions, so the sequence is not cut up here.
        seed, rows = context.settings.sampling.key_seed, min(MAX_ROWS, context.rows)
        self._sampling = RowSampling(seed, context.coordinates.dp, rows)
        self._blocks = tuple(block.module for block in context.stack.blocks)
        self._calls: dict[int, dict[str, Any]] = {}
        self._rows: dict[int, torch.Tensor] = {}

    def reserve(self, layout: Layout) -> None:
        """Reserve 28 bytes a head."""
        for site in self._sites.values():
            layout.add(_region(site), torch.float32, len(FIELDS), site.heads)

    def places(self) -> Iterable[Place]:
        """Return a hook behind every attention layer."""
        return [Place(s.module, partial(self._look, s)) for s in self._sites.values()]

    def begin(self, scene: Scene) -> None:
        """Listen to the attention functions."""
        self.close()
        # A trace that meets another function than before would be compiled again.
        if any(map(_is_compiled, self._blocks)):
            return
        for each in self._intercepts:
            each.add(self)

    def end(self, scene: Scene, output: Any) -> None:
        """Stop listening."""
        self.close()

    def finish(self, scene: Scene) -> None:
        """Stop listening, should an exception have ended the forward."""
        self.close()

    def close(self) -> None:
        """Stop listening and let go of all tensors."""
        for each in self._intercepts:
            each.remove(self)
        self._calls.clear()
        self._rows.clear()

    def note(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep what the layer attends with until its hook runs, which has errors and time counted."""
        if id(module) in self._sites and not in_backward():
            self._calls[id(module)] = named_arguments(args, kwargs)

    def _look(self, site: Site, scene: Scene, module: nn.Module, args: Any, output: Any) -> None:
        call = self._calls.pop(id(module), None)
        done: dict[str, bool] = scene.slot.capture.notes.setdefault(self.name, {})
        # A layer that runs twice, as with shared weights, counts once.
        if call is None or not scene.is_forward or scene.is_recompute or site.tap in done:
            return
        region = scene.slot.device[_region(site)]
        region.zero_()
        query, key = call["query"].detach(), call["key"].detach()
        first = self._first_head(query.shape[1], site.heads)
        if first is not None:
            rows = self._positions(scene.step, query.shape[2], query.device)
            sight = sight_of(module, call, rows)
            found = entropy.row_entropies(
                query.index_select(2, rows), key, sight, _scale(call), call.get("softcap")
            )
            summary = entropy.summarise(found, sight.visible)
            region[:, first : first + query.shape[1]].copy_(summary)
        done[site.tap] = True

    def _positions(self, step: int, length: int, device: torch.device) -> torch.Tensor:
        """Return the positions to look at, int64 (m,), equal for all layers of the step."""
        if length not in self._rows:
            _, self._rows[length] = self._sampling.pick(step, 0, length, device)
        return self._rows[length]

    def _first_head(self, own: int, heads: int) -> int | None:
        """Return the place of this rank's first head among all; None if another rank speaks for it.

        Raises:
            ValueError: the heads are not cut up evenly.
        """
        at = self._at
        if own == heads:
            return 0 if at.tp == at.sp == 0 else None
        if own * at.tp_size * at.sp_size != heads:
            raise ValueError(
                f"{own} of {heads} heads on a rank of {at.tp_size} x {at.sp_size} (tp x sp)"
            )
        return (at.tp * at.sp_size + at.sp) * own

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return one tap a layer."""
        done = slot.capture.notes[self.name]
        return [_tap(site, slot) for site in self._sites.values() if site.tap in done]


def _tap(site: Site, slot: Slot) -> pb.TapSketch:
    values = slot.host[_region(site)]
    summaries = [summed(name, values[place]) for place, name in enumerate(FIELDS)]
    return pb.TapSketch(tap=site.tap, width=site.heads, summaries=summaries)


def _region(site: Site) -> str:
    return f"attention:{site.tap}"


def _scale(call: Mapping[str, Any]) -> float:
    given = call.get("scaling")
    return float(call["query"].shape[-1]) ** -0.5 if given is None else float(given)


def _is_compiled(module: nn.Module) -> bool:
    return (
        getattr(module, "_compiled_call_impl", None) is not None
        or type(module).__name__ == "OptimizedModule"
    )


# ---------------------------------------------------------------- what an implementation hides


def sight_of(module: nn.Module, call: Mapping[str, Any], rows: torch.Tensor) -> Visibility:
    """Return what the rows int64 (m,) see in this call, as the layer's implementation computes it."""
    length, keys = call["query"].shape[2], call["key"].shape[2]
    mask, kind = call.get("attention_mask"), _implementation(module)
    is_causal = call.get("is_causal")
    is_causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        sight = entropy.masked_sight(mask, rows, keys)
    elif hasattr(mask, "mask_mod"):
        sight = _block_sight(mask, rows, keys)
    elif kind == "eager":
        sight = entropy.causal_sight(rows, keys, is_causal=False)
    elif kind in ("sdpa", "flex_attention"):
        sight = entropy.causal_sight(rows, keys, is_causal=is_causal and length > 1)
    else:
        sight = _flash_sight(call, rows, is_causal=is_causal)
    bias = call.get("position_bias")
    if bias is None:
        return sight
    added = bias.detach()[..., :keys].index_select(-2, rows).float()
    return sight._replace(bias=added if sight.bias is None else sight.bias + added)


def _block_sight(mask: Any, rows: torch.Tensor, keys: int) -> Visibility:
    """Return what a BlockMask of flex attention shows: its rule, asked for all indices at once."""
    batch, head = (
        torch.arange(mask.shape[place], device=rows.device).view(shape)
        for place, shape in ((0, (-1, 1, 1, 1)), (1, (1, -1, 1, 1)))
    )
    place = torch.arange(keys, device=rows.device)
    return Visibility(mask.mask_mod(batch, head, rows[None, None, :, None], place))


def _flash_sight(call: Mapping[str, Any], rows: torch.Tensor, *, is_causal: bool) -> Visibility:
    """Return what flash attention shows, which is told lengths and positions instead of a mask."""
    batch, _, length, _ = call["query"].shape
    keys = call["key"].shape[2]
    sight = entropy.causal_sight(
        rows, keys, is_causal=is_causal, offset=keys - length, window=call.get("sliding_window")
    )
    bounds, positions = call.get("cu_seq_lens_q"), call.get("position_ids")
    mask = call.get("attention_mask")
    if isinstance(mask, torch.Tensor):
        return entropy.without_padding(sight, mask[:, :keys], rows)
    if batch != 1 or keys != length:
        return sight
    if bounds is not None:
        return entropy.within(sight, entropy.segments_of_bounds(bounds, length), rows)
    if positions is not None and positions.ndim == 2:
        return entropy.within(sight, entropy.segments_of_positions(positions), rows)
    return sight


def _implementation(module: nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "_attn_implementation", "") or "eager")


# ---------------------------------------------------------------- which layers there are


def build(context: ProbeContext) -> AttentionProbe | str:
    """Return the probe, or why the model has none."""
    sites = list(_sites(context))
    if not sites:
        return "no attention layer of Hugging Face transformers in the blocks"
    if any(map(_goes_its_own_way, (site.module for site in sites))):
        return (
            "reorder_and_upcast_attn computes attention without transformers' attention functions"
        )
    found: dict[int, Intercept] = {}
    for site in sites:
        each = _intercept(site.module, is_cut=context.coordinates.sp_size > 1)
        if isinstance(each, str):
            return each
        found[id(each)] = each
    return AttentionProbe(sites, tuple(found.values()), context)


def _sites(context: ProbeContext) -> Iterator[Site]:
    """Yield the first self-attention of every block."""
    for block in context.stack.blocks:
        for module in block.module.modules():
            heads = getattr(getattr(module, "config", None), "num_attention_heads", None)
            is_cross = getattr(module, "is_cross_attention", False)
            if not is_cross and isinstance(heads, int) and registry_of(module) is not None:
                yield Site(context.stack.site(block.index, "heads"), module, heads)
                break


def _intercept(module: nn.Module, *, is_cut: bool) -> Intercept | str:
    registry = registry_of(module)
    if not hasattr(registry, "get_interface"):
        return "this version of transformers does not let attention functions be looked up"
    if not is_cut:
        return intercept(registry, "get_interface", is_lookup=True)
    ulysses = ulysses_of(registry, _implementation(module))
    if ulysses is None:
        return "sequences are cut up over ranks, but not by DeepSpeed's Ulysses for transformers"
    return intercept(ulysses, "attn", is_lookup=False)


def _goes_its_own_way(module: nn.Module) -> bool:
    is_upcast = bool(getattr(module, "reorder_and_upcast_attn", False))
    return is_upcast and _implementation(module) == "eager"
