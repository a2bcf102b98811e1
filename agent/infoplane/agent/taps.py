"""Taps: places in a model that are watched, and the blocks that they belong to.

NN/block     output of block NN: the residual stream
NN/act       output of the activation function inside block NN
NN/attn      output of the attention of block NN, after its last projection; NN/mlp the same of the MLP
NN/norm1     output of the first norm inside block NN, NN/norm2 of the second
NN/...       output of another module inside block NN, by its name there
embed        input of block 0
final_norm   output of the norm outside the blocks
logits       output of the head

Blocks are the longest ModuleList (or Sequential) whose children are all of one class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from torch import nn

Kind = Literal["block", "act", "rows"]
_COLUMN_PARALLEL: Final = frozenset({"LinearLayer", "ColumnParallelLinear"})


@dataclass(frozen=True, slots=True)
class Tap:
    """One place in the model.

    Attributes:
        name: `07/block`, `07/act`, `embed` or `final_norm`.
        module: the module that is hooked.
        kind: which sketch it gets; rows: its sampled rows only.
        is_input: the module's input is tapped, not its output.
        layer: index of the layer; -1 for what is before the blocks, number of layers for what is after them.
        is_sharded: each rank of the tensor-parallel group sees columns of its own.
        collection: the group of taps that it travels with; empty: that of its layers.
        level: sampled every 2^level-th step at most.
    """

    name: str
    module: nn.Module
    kind: Kind
    is_input: bool
    layer: int
    is_sharded: bool = False
    collection: str = ""
    level: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its number in the whole model, its name under the root, and the module."""

    index: int
    name: str
    module: nn.Module


@dataclass(frozen=True, slots=True)
class Stack:
    """The blocks of a model, as far as they are on this rank.

    Attributes:
        total: blocks of the whole model.
        stages: the blocks of every pipeline stage; one stage without pipeline parallelism.
        stage: number of this rank's stage.
    """

    blocks: tuple[Block, ...]
    total: int
    stages: tuple[range, ...]
    stage: int = 0

    @property
    def is_first(self) -> bool:
        """Whether the embeddings are on this rank."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether the final norm and the head are on this rank."""
        return self.stage == len(self.stages) - 1

    @property
    def digits(self) -> int:
        """Digits of a layer in a tap's name, so that names sort."""
        return max(2, len(str(self.total - 1)))

    def site(self, index: int, name: str) -> str:
        """Return the tap name of a site of block `index`."""
        return f"{index:0{self.digits}}/{name}"

    def unit(self, name: str, stage: int | None = None) -> str:
        """Return the name of a stage's unit: a stage's ranks send for themselves."""
        layers = self.stages[self.stage if stage is None else stage]
        if len(self.stages) == 1:
            return name
        return f"{name}/{layers.start:0{self.digits}}-{max(layers.stop - 1, 0):0{self.digits}}"


@dataclass(slots=True)
class Discovery:
    """The taps of a model and the reasons for those that are missing.

    Attributes:
        inputs: outputs of blocks on the stage before, seen as the input of this stage's first block; sent as
            duplicates.
        missing: site -> why it is not tapped, or not in every layer.
        family: how the modules inside the blocks are called, for people.
        layers: layers of the whole model that are tapped where a profile decides; None: all.
    """

    stack: Stack = field(default_factory=lambda: Stack((), 0, (range(0),)))
    taps: list[Tap] = field(default_factory=list)
    inputs: list[Tap] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    family: str = ""
    layers: tuple[int, ...] | None = None

    def table(self) -> str:
        """Return one line per site: what is tapped, and what is not and why."""
        sites = Counter(tap.name.partition("/")[2] or tap.name for tap in self.taps)
        lines = (
            [f"  {'blocks':<10} {self.stack.total}, named as in {self.family}"]
            if self.family
            else []
        )
        lines += [f"  {site:<10} {count} tapped" for site, count in sites.items()]
        lines += [f"  {site:<10} not tapped: {reason}" for site, reason in self.missing.items()]
        return "\n".join(lines)


def find_stack(root: nn.Module) -> Stack:
    """Return the blocks of a model that is whole on this rank."""
    prefix, modules = _longest_list(root)
    blocks = tuple(Block(i, join(prefix, str(i)), block) for i, block in enumerate(modules))
    return Stack(blocks, len(blocks), (range(len(blocks)),))


def is_column_parallel(module: nn.Module) -> bool:
    """Whether the module's output holds only this rank's columns (DeepSpeed AutoTP and Megatron)."""
    return any(kind.__name__ in _COLUMN_PARALLEL for kind in type(module).__mro__)


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


def join(*parts: str) -> str:
    """Return a module's name from its parts."""
    return ".".join(part for part in parts if part)
