"""Discovery: finds the sites of a model and chooses among them; never raises for a model it does not understand.

A site is wanted by its setting, by the profile (profiles.py) or by a collection (tap_collections.py). What is left
out is in `Discovery.missing`, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from torch import nn

from infoplane.agent import tokens
from infoplane.agent.families import (
    Named,
    activations,
    attention_output,
    family_of,
    inside,
    mlp_output,
    norms,
)
from infoplane.agent.profiles import AUTO_SITES, Budget, thinned
from infoplane.agent.settings import TapsSettings
from infoplane.agent.tap_collections import parse_collections
from infoplane.agent.taps import (
    Block,
    Discovery,
    Kind,
    Stack,
    Tap,
    find_stack,
    is_column_parallel,
    join,
)

IN_BLOCKS: Final = ("block", "act", "attn", "mlp", "norm")
SITES: Final = (*IN_BLOCKS, "embed", "final_norm", "logits", "modules")
# Most specific first: a bare "norm" may also be an input norm.
_NORM_NAMES: Final = (
    r"ln_f|norm_f|final_layer_norm|final_layernorm|final_norm|norm_final",
    r"(.*\.)?model\.norm|ln_post|norm|layer_norm|ln",
)
_OFF: Final = "off in the settings"


@dataclass(frozen=True, slots=True)
class _Site:
    """A tap that could be, and the name of its module under the root."""

    tap: Tap
    module_name: str


def discover(
    root: nn.Module,
    settings: TapsSettings,
    stack: Stack | None = None,
    *,
    tp_size: int = 1,
    budget: Budget = Budget(),  # noqa: B008 - frozen
) -> Discovery:
    """Return the taps of `root`.

    Args:
        root: the model, or what this pipeline stage has of it.
        settings: which sites are wanted.
        stack: the blocks, where the framework knows them; found by their shape otherwise.
        tp_size: ranks of the tensor-parallel group.
        budget: the profile and its bytes.

    Cost: some passes over the names of all modules, once.
    """
    found = Discovery(stack or find_stack(root))
    if not found.stack.blocks:
        reason = "no ModuleList or Sequential whose children share one class"
        found.missing = dict.fromkeys(("embed", "block", "act", "final_norm"), reason)
        return found
    found.family = family_of(found.stack.blocks[len(found.stack.blocks) // 2].module).name
    _Search(found, root, settings, tp_size, budget).run()
    return found


class _Search:
    """Fills a Discovery."""

    def __init__(
        self, found: Discovery, root: nn.Module, settings: TapsSettings, tp_size: int, budget: Budget
    ) -> None:  # fmt: skip
        self._found = found
        self._stack = found.stack
        self._root = root
        self._tp_size = tp_size
        self._budget = budget
        self._choices = {site: str(getattr(settings, site)) for site in SITES}
        self._collections = parse_collections(settings.collections)
        self._auto = {site for site in AUTO_SITES[budget.profile] if self._choices[site] == "auto"}
        self._without: dict[str, int] = {}

    def run(self) -> None:
        """Look for every site."""
        self._thin()
        self._add_input()
        for site in SITES:
            choice = self._choices[site]
            if choice == "off" and site == "modules":
                continue  # nobody misses what has no name
            if choice == "off":
                self._found.missing[site] = _OFF
                continue
            candidates = list(getattr(self, f"_find_{site}")())
            kept = [tap for one in candidates if (tap := self._keep(site, one)) is not None]
            taken = {tap.name for tap in self._found.taps}
            self._found.taps += [tap for tap in kept if tap.name not in taken]
            self._explain(site, len(candidates), len(kept))

    # ---------------------------------------------------------------- choosing

    def _thin(self) -> None:
        some = [site for site in IN_BLOCKS if site in self._auto]
        every = [site for site in IN_BLOCKS if self._choices[site] == "on"]
        stack = self._stack
        layers = thinned(stack.stages, self._budget, every, some)
        if len(layers) == stack.total:
            return
        self._found.layers = layers
        named = ", ".join(f"{layer:0{stack.digits}}" for layer in layers)
        self._found.missing["layers"] = (
            f"{', '.join(some)} in {len(layers)} of {stack.total} layers only ({named}): "
            f"{self._budget.nbytes} bytes a step, profile {self._budget.profile}"
        )

    def _keep(self, site: str, candidate: _Site) -> Tap | None:
        """Return the tap, in its collection if it has one; None if nobody wants it."""
        tap, choice = candidate.tap, self._choices[site]
        for collection in self._collections:
            if collection.pattern.search(tap.name):
                return replace(tap, collection=collection.name, level=collection.level)
        if choice == "auto":
            layers = self._found.layers
            is_left_out = site in IN_BLOCKS and layers is not None and tap.layer not in layers
            return tap if site in self._auto and not is_left_out else None
        if choice == "on" or site in ("final_norm", "logits", "modules"):
            return tap
        return tap if re.search(choice, candidate.module_name) else None

    def _explain(self, site: str, seen: int, kept: int) -> None:
        missing, choice = self._found.missing, self._choices[site]
        without = self._without.get(site, 0)
        is_wanted = choice != "auto" or site in self._auto or kept
        if not is_wanted:
            missing[site] = "off in this profile"
        elif without:
            missing[site] = f"{without} of {len(self._stack.blocks)} blocks have none of their own" + (
                " (a function such as F.gelu cannot be hooked)" if site == "act" else ""
            )  # fmt: skip
        elif not kept and site not in missing:
            missing[site] = "no module matches the setting" if seen else "no such module"

    # ---------------------------------------------------------------- outside the blocks

    def _add_input(self) -> None:
        """Remember the output of the block before this stage's first, where the stage before sends it."""
        first = self._stack.blocks[0]
        before, layers = first.index - 1, self._found.layers
        if self._stack.is_first or self._choices["block"] == "off":
            return
        if layers is None or before in layers or self._choices["block"] == "on":
            name = self._stack.site(before, "block")
            self._found.inputs.append(Tap(name, first.module, "block", True, before))

    def _find_embed(self) -> Iterator[_Site]:
        first = self._stack.blocks[0]
        if self._stack.is_first:
            yield _Site(Tap("embed", first.module, "block", True, -1), first.name)
        else:
            self._found.missing["embed"] = "on the first pipeline stage"

    def _find_final_norm(self) -> Iterator[_Site]:
        choice = self._choices["final_norm"]
        is_named = choice not in ("auto", "on")
        if not self._stack.is_last:
            self._found.missing["final_norm"] = "on the last pipeline stage"
            return
        outside = _outside(self._root, self._stack)
        patterns = (choice,) if is_named else _NORM_NAMES
        match = _last_named(outside, patterns)
        if match is None and len(self._stack.stages) > 1 and not is_named:
            # Layers of a pipeline have numbers for names, so the class has to tell.
            normed = [one for one in outside if "norm" in type(one[1]).__name__.lower()]
            match = normed[-1] if normed else None
        if match is None:
            self._found.missing["final_norm"] = (
                "no module named like a final norm outside the blocks"
            )
            return
        yield _Site(Tap("final_norm", match[1], "block", False, self._stack.total), match[0])

    def _find_logits(self) -> Iterator[_Site]:
        if not self._stack.is_last:
            self._found.missing["logits"] = "on the last pipeline stage"
            return
        choice = self._choices["logits"]
        pattern = tokens.HEAD_NAMES if choice in ("auto", "on") else choice
        named = [
            (name, module)
            for name, module in self._root.named_modules()
            if re.fullmatch(pattern, name.rpartition(".")[2]) or re.fullmatch(pattern, name)
        ]
        if named and hasattr(named[-1][1], "weight"):
            name, head = named[-1]
            tap = Tap("logits", head, "rows", False, self._stack.total, self._is_sharded(head))
            yield _Site(tap, name)

    # ---------------------------------------------------------------- inside the blocks

    def _find_block(self) -> Iterator[_Site]:
        for block in self._stack.blocks:
            name = self._stack.site(block.index, "block")
            yield _Site(Tap(name, block.module, "block", False, block.index), block.name)

    def _find_act(self) -> Iterator[_Site]:
        taken: set[int] = set()
        for block in self._stack.blocks:
            match = next(activations(block.module), None)
            if match is None or id(match[1]) in taken:
                self._lacks("act")
                continue
            taken.add(id(match[1]))
            is_sharded = self._tp_size > 1 and _feeds_on_columns(block.module, match[0])
            yield self._site(block, "act", match, "act", is_sharded=is_sharded)

    def _find_attn(self) -> Iterator[_Site]:
        for block in self._stack.blocks:
            yield from self._one(block, "attn", attention_output(block.module))

    def _find_mlp(self) -> Iterator[_Site]:
        for block in self._stack.blocks:
            yield from self._one(block, "mlp", mlp_output(block.module))

    def _one(self, block: Block, site: str, match: Named | None) -> Iterator[_Site]:
        if match is None:
            self._lacks(site)
        else:
            yield self._site(block, site, match)

    def _find_norm(self) -> Iterator[_Site]:
        for block in self._stack.blocks:
            matches = norms(block.module)
            if not matches:
                self._lacks("norm")
            for place, match in enumerate(matches, start=1):
                yield self._site(block, f"norm{place}", match)

    def _find_modules(self) -> Iterator[_Site]:
        """Yield what the regular expression finds, under its own name."""
        pattern = self._choices["modules"]
        if pattern in ("on", "auto"):
            self._found.missing["modules"] = "needs a regular expression"
            return
        seen = {
            id(module): (block, name)
            for block in self._stack.blocks
            for name, module in inside(block.module)
        }
        layer = -1
        first = self._stack.blocks[0].name
        for name, module in self._root.named_modules():
            layer = self._stack.total if name == first else layer
            if not name or not re.search(pattern, name):
                continue
            if id(module) in seen:
                block, own = seen[id(module)]
                yield self._site(block, own, (own, module))
            elif not any(f"{block.name}." == f"{name}." for block in self._stack.blocks):
                yield _Site(self._tap(name, module, layer), name)

    def _site(
        self,
        block: Block,
        site: str,
        match: Named,
        kind: Kind = "block",
        *,
        is_sharded: bool | None = None,
    ) -> _Site:
        name, module = match
        shards = self._is_sharded(module) if is_sharded is None else is_sharded
        tap = Tap(self._stack.site(block.index, site), module, kind, False, block.index, shards)
        return _Site(tap, join(block.name, name))

    def _tap(self, name: str, module: nn.Module, layer: int) -> Tap:
        return Tap(name, module, "block", False, layer, self._is_sharded(module))

    def _is_sharded(self, module: nn.Module) -> bool:
        return self._tp_size > 1 and is_column_parallel(module)

    def _lacks(self, site: str) -> None:
        self._without[site] = self._without.get(site, 0) + 1


def _feeds_on_columns(block: nn.Module, name: str) -> bool:
    """Whether the module `name` works between a column-parallel and a row-parallel layer: its siblings tell."""
    parent = name.rpartition(".")[0]
    return any(
        is_column_parallel(module)
        for other, module in inside(block)
        if other.rpartition(".")[0] == parent
    )


def _last_named(modules: list[Named], patterns: Iterable[str]) -> Named | None:
    for pattern in patterns:
        for name, module in reversed(modules):
            if re.fullmatch(pattern, name.rpartition(".")[2]) or re.fullmatch(pattern, name):
                return name, module
    return None


def _outside(root: nn.Module, stack: Stack) -> list[Named]:
    """Return the leaves outside the list that holds the blocks, in the model's order."""
    if len(stack.stages) > 1:
        within = [f"{block.name}." for block in stack.blocks]
    else:
        # A list of blocks may have a tower beside it: what is in the list but no block is left out too.
        within = [f"{stack.blocks[0].name.rpartition('.')[0]}."]
    return [
        (name, module) for name, module in root.named_modules()
        if name and not f"{name}.".startswith(tuple(within)) and not any(module.children())
    ]  # fmt: skip
