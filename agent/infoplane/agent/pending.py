"""Taps whose sketches are written together: on a GPU a launch costs the training thread more than a tap's arithmetic.

At its module a tap does only what needs the activation, three launches for a block and one for an activation function:
holding on to the tensor would show what the model writes into it later. The rest is done for a stack of taps at once,
when the stack is full and at the end of the forward. On a CPU a stack is one tap, which stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import torch

from infoplane.agent.sketch import Views, act_rows, project, write_acts, write_blocks

STACK_BYTES: Final = {"cpu": 0, "cuda": 32 << 20}
"""Memory of a stack; one tap at least."""
MOST_TAPS: Final = 64


Key = TypeVar("Key")


def alike(held: Mapping[Key, torch.Tensor]) -> Iterator[list[Key]]:
    """Yield the keys of tensors that go into one stack: of one shape on a GPU, one by one on a CPU."""
    groups: dict[tuple[int, ...], list[Key]] = {}
    for key, value in held.items():
        groups.setdefault(tuple(value.shape), []).append(key)
    for keys in groups.values():
        row = 4 * held[keys[0]].numel()
        size = _places(held[keys[0]].device, row)
        yield from (keys[start : start + size] for start in range(0, len(keys), size))


def _places(device: torch.device, nbytes: int) -> int:
    """Return how many taps of `nbytes` each a stack has room for."""
    limit = STACK_BYTES.get(device.type, STACK_BYTES["cuda"])
    return max(1, min(limit // max(nbytes, 1), MOST_TAPS))


class Stack:
    """Taps of one shape that wait.

    Attributes:
        taps: their names.
        arrays: what is kept of each, (places, ...) each.
    """

    def __init__(
        self, shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, like: torch.Tensor
    ) -> None:
        row = sum(torch.Size(shape).numel() for shape in shapes) * dtype.itemsize
        self.places = _places(like.device, row)
        self.taps: list[str] = []
        self.shapes, self.dtype = shapes, dtype
        self.arrays = tuple(
            torch.empty((self.places, *shape), dtype=dtype, device=like.device) for shape in shapes
        )

    @property
    def is_full(self) -> bool:
        """Whether no tap fits any more."""
        return len(self.taps) == self.places

    def fits(self, shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype) -> bool:
        """Return whether a tap of these shapes may wait here."""
        return not self.is_full and self.shapes == shapes and self.dtype == dtype

    def filled(self) -> tuple[torch.Tensor, ...]:
        """Return the arrays of the taps that wait."""
        return tuple(array[: len(self.taps)] for array in self.arrays)


class Pending:
    """The stacks of one forward; none of its methods waits for the device.

    Args:
        at_failure: gets the names of taps whose sketches could not be written, before the error goes on.
    """

    def __init__(self, at_failure: Callable[[Sequence[str]], None]) -> None:
        self._at_failure = at_failure
        self._blocks: Stack | None = None
        self._acts: Stack | None = None

    def add_block(
        self, tap: str, rows: torch.Tensor, matrix: torch.Tensor, index: torch.Tensor, views: Views
    ) -> None:
        """Take in `rows` (N, d), as `sketch_block` does."""
        n, r = rows.shape[0], matrix.shape[1]
        shapes = ((n,), (n, r))
        if self._blocks is None or not self._blocks.fits(shapes, torch.float32):
            self.write_blocks(index, views)
            self._blocks = Stack(shapes, torch.float32, rows)
        place = len(self._blocks.taps)
        norms, projected = (array[place] for array in self._blocks.arrays)
        project(rows, matrix, norms, projected)
        self._blocks.taps.append(tap)
        if self._blocks.is_full:
            self.write_blocks(index, views)

    def add_act(
        self, tap: str, rows: torch.Tensor, index: torch.Tensor, views: Views, width: int
    ) -> None:
        """Take in the sampled rows of `rows` (N, d), as `sketch_act` does."""
        some = act_rows(index, width)
        shapes = ((some.shape[0], rows.shape[1]),)
        if self._acts is None or not self._acts.fits(shapes, rows.dtype):
            self.write_acts(views)
            self._acts = Stack(shapes, rows.dtype, rows)
        torch.index_select(rows, 0, some, out=self._acts.arrays[0][len(self._acts.taps)])
        self._acts.taps.append(tap)
        if self._acts.is_full:
            self.write_acts(views)

    @property
    def taps(self) -> list[str]:
        """The names of all that wait."""
        return [tap for stack in (self._blocks, self._acts) if stack for tap in stack.taps]

    def __bool__(self) -> bool:
        """Whether any tap waits."""
        return bool(self.taps)

    def write_blocks(self, index: torch.Tensor, views: Views) -> None:
        """Write the blocks that wait."""
        stack, self._blocks = self._blocks, None
        if stack is not None and stack.taps:
            with self._noted(stack.taps):
                norms, projected = stack.filled()
                write_blocks(norms, projected, index, views, stack.taps)

    def write_acts(self, views: Views) -> None:
        """Write the activation functions that wait."""
        stack, self._acts = self._acts, None
        if stack is not None and stack.taps:
            with self._noted(stack.taps):
                (elements,) = stack.filled()
                write_acts(elements.flatten(1), views, stack.taps)

    @contextmanager
    def _noted(self, taps: Sequence[str]) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._at_failure(taps)
            raise

    def clear(self) -> None:
        """Forget everything that waits."""
        self._blocks = self._acts = None
