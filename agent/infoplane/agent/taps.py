"""Discovery: where a model is tapped, and what could not be.

blocks       the longest ModuleList (or Sequential) whose children are all of one class
NN/block     output of block NN
NN/act       output of the activation function inside block NN
embed        input of block 0
final_norm   output of the norm outside the blocks
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from torch import nn

from infoplane.agent.settings import TapsSettings

Kind = Literal["block", "act"]
_ACTIVATIONS: Final = (
    nn.GELU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Tanh, nn.ELU, nn.Mish, nn.LeakyReLU, nn.Hardswish,
)  # fmt: skip
_ACT_NAMES: Final = frozenset({"act", "act_fn", "activation", "activation_fn"})
# Most specific first: a bare "norm" may also be an input norm.
_NORM_NAMES: Final = (
    r"ln_f|norm_f|final_layer_norm|final_layernorm|final_norm|norm_final",
    r"(.*\.)?model\.norm|ln_post|norm|layer_norm|ln",
)


@dataclass(frozen=True, slots=True)
class Tap:
    """One place in the model.

    Attributes:
        name: `07/block`, `07/act`, `embed` or `final_norm`.
        module: the module that is hooked.
        kind: which sketch it gets.
        is_input: the module's input is tapped, not its output.
        layer: index of the layer; -1 for `embed`, number of layers for `final_norm`.
    """

    name: str
    module: nn.Module
    kind: Kind
    is_input: bool
    layer: int


@dataclass(slots=True)
class Discovery:
    """The taps of a model and the reasons for those that are missing."""

    num_layers: int = 0
    taps: list[Tap] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """Return one line per site: what is tapped, and what is not and why."""
        sites = {"embed": 0, "block": 0, "act": 0, "final_norm": 0}
        for tap in self.taps:
            sites[tap.name.rsplit("/", maxsplit=1)[-1]] += 1
        lines = [f"  {site:<10} {count} tapped" for site, count in sites.items() if count]
        lines += [f"  {site:<10} not tapped: {reason}" for site, reason in self.missing.items()]
        return "\n".join(lines)


def discover(root: nn.Module, settings: TapsSettings) -> Discovery:
    """Return the taps of `root`; never raises for a model it does not understand."""
    found = Discovery()
    prefix, blocks = _longest_list(root)
    found.num_layers = len(blocks)
    if not blocks:
        reason = "no ModuleList or Sequential whose children share one class"
        found.missing = dict.fromkeys(("embed", "block", "act", "final_norm"), reason)
        return found
    digits = max(2, len(str(len(blocks) - 1)))
    _add_embed(found, prefix, blocks[0], settings.embed)
    _add_blocks(found, prefix, blocks, digits, settings.block)
    _add_activations(found, prefix, blocks, digits, settings.act)
    _add_final_norm(found, root, prefix, settings.final_norm)
    return found


def _longest_list(root: nn.Module) -> tuple[str, list[nn.Module]]:
    """Return (name, children) of the longest uniform list that is not inside another one."""
    lists: dict[str, list[nn.Module]] = {}
    for name, module in root.named_modules():
        # Experts or heads inside a block form lists too, possibly longer ones.
        is_nested = any(f"{name}.".startswith(f"{outer}.") for outer in lists if outer)
        if not is_nested and _is_uniform(module):
            lists[name] = list(module.children())
    return max(lists.items(), key=lambda item: len(item[1]), default=("", []))


def _is_uniform(module: nn.Module) -> bool:
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return False
    children = list(module.children())
    if len({type(child) for child in children}) != 1:
        return False
    # A Sequential of plain modules is the inside of a layer rather than a list of layers.
    return isinstance(module, nn.ModuleList) or any(children[0].children())


def _add_embed(found: Discovery, prefix: str, block: nn.Module, choice: str) -> None:
    if _chosen(choice, _join(prefix, "0")):
        found.taps.append(Tap("embed", block, "block", True, -1))
    else:
        found.missing["embed"] = "off in the settings"


def _add_blocks(
    found: Discovery, prefix: str, blocks: list[nn.Module], digits: int, choice: str
) -> None:
    for layer, block in enumerate(blocks):
        if _chosen(choice, _join(prefix, str(layer))):
            found.taps.append(Tap(f"{layer:0{digits}}/block", block, "block", False, layer))
    if not any(tap.kind == "block" and not tap.is_input for tap in found.taps):
        found.missing["block"] = "off in the settings"


def _add_activations(
    found: Discovery, prefix: str, blocks: list[nn.Module], digits: int, choice: str
) -> None:
    taken: set[int] = set()
    without = 0
    for layer, block in enumerate(blocks):
        match = next(_activations(block), None)
        if match is None or id(match[1]) in taken:
            without += 1
            continue
        name, module = match
        if _chosen(choice, _join(prefix, str(layer), name)):
            taken.add(id(module))
            found.taps.append(Tap(f"{layer:0{digits}}/act", module, "act", False, layer))
    if without:
        found.missing["act"] = (
            f"{without} of {len(blocks)} blocks have no activation module of their own "
            "(a function such as F.gelu cannot be hooked)"
        )
    elif not taken:
        found.missing["act"] = "off in the settings"


def _activations(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in block.named_modules():
        last = name.rsplit(".", maxsplit=1)[-1]
        if isinstance(module, _ACTIVATIONS) or (last in _ACT_NAMES and not any(module.children())):
            yield name, module


def _add_final_norm(found: Discovery, root: nn.Module, prefix: str, choice: str) -> None:
    if choice == "off":
        found.missing["final_norm"] = "off in the settings"
        return
    # The model that holds the blocks comes first, so that another tower's norm is not taken.
    outside = [
        (name, module) for name, module in root.named_modules()
        if name and not f"{name}.".startswith(f"{prefix}.") and not any(module.children())
    ]  # fmt: skip
    patterns = _NORM_NAMES if choice == "on" else (choice,)
    for pattern in patterns:
        for name, module in reversed(outside):
            last = name.rsplit(".", maxsplit=1)[-1]
            if re.fullmatch(pattern, last) or re.fullmatch(pattern, name):
                found.taps.append(Tap("final_norm", module, "block", False, found.num_layers))
                return
    found.missing["final_norm"] = "no module named like a final norm outside the blocks"


def _chosen(choice: str, name: str) -> bool:
    return choice == "on" or (choice != "off" and re.search(choice, name) is not None)


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
