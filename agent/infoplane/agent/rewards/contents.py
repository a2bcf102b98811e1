"""Prompts, responses and raters: copied when they are observed, hashed by the publisher thread."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.rewards.device import Kept, to_host
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.hashes import HASH_BYTES, Hasher, UIntArray, gather


@dataclass(frozen=True, slots=True)
class Padded:
    """Token ids of a padded batch: an event's content is what the mask leaves of its row.

    A row hashes like the list of the same ids, whatever it was padded to.

    Attributes:
        ids: integers (m, n), an array or a tensor.
        mask: (m, n); zero = padding, or a part of something else.
    """

    ids: Any
    mask: Any


Contents: TypeAlias = "Sequence[Any] | npt.NDArray[Any] | torch.Tensor | Padded"
"""One element per event: str, bytes, an int of the user's own, or token ids (list, 1-D array or tensor). An array or
tensor of two dimensions holds the token ids of one event per row, one of one dimension the user's own ints."""

_ELEMENT: Final = "str, bytes, int or a sequence of token ids"
_INT_BYTES: Final = 32  # about what a Python int holds on to


class HeldContents(Protocol):
    """A copy of the contents of one column."""

    @property
    def nbytes(self) -> int:
        """Return about how many bytes it holds."""
        ...

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield the tensors in it."""
        ...

    def hashes(self, hasher: Hasher) -> UIntArray:
        """Return one hash per event, uint64 (m,); publisher thread only.

        Raises:
            EventError: a sequence of token ids holds something else.
        """
        ...


def size_of(name: str, values: Any) -> int:
    """Return how many events `values` has contents for; copies and reads nothing.

    Raises:
        EventError: it is no sequence of contents.
    """
    if isinstance(values, Padded):
        return _padded_size(name, values)
    if isinstance(values, torch.Tensor | np.ndarray):
        if values.ndim not in (1, 2):
            raise EventError(name, "1 or 2 dimensions", f"shape {tuple(values.shape)}")
        return int(values.shape[0])
    lacks = not (hasattr(values, "__len__") and hasattr(values, "__iter__"))
    if lacks or isinstance(values, str | bytes | bytearray | memoryview | Mapping | Set):
        raise EventError(name, "a sequence with one element per event", type(values).__name__)
    return len(values)


def _padded_size(name: str, values: Padded) -> int:
    shapes = [tuple(getattr(part, "shape", ())) for part in (values.ids, values.mask)]
    if len(shapes[0]) != 2 or shapes[0] != shapes[1]:
        raise EventError(name, "ids and mask of one shape (m, n)", f"{shapes[0]} and {shapes[1]}")
    return int(shapes[0][0])


def hold(name: str, values: Contents, *, allows_none: bool = False) -> HeldContents:
    """Return a copy of `values`; no host sync. About 0.1 us a text, and a copy of token ids.

    Raises:
        EventError: an element is none of the forms of a content.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "USO":
        values = values.tolist()
    if isinstance(values, Padded):
        return _Stripped(name, values)
    if isinstance(values, torch.Tensor | np.ndarray):
        return _Grid(_own_ids(name, values))
    items = list(values)
    if set(map(type, items)) <= {str, bytes}:
        return _Texts(items)
    if items and all(isinstance(item, torch.Tensor) and item.ndim == 1 for item in items):
        return _Ragged(name, items)
    return _Listed(name, items, allows_none=allows_none)


class _Grid:
    """Integers (m,): the user's own ids; or (m, n): n token ids per event."""

    def __init__(self, ids: Kept) -> None:
        self._ids = ids
        self.nbytes = int(ids.nbytes)

    def tensors(self) -> Iterator[torch.Tensor]:
        return _tensors([self._ids])

    def hashes(self, hasher: Hasher) -> UIntArray:
        rows = to_host(self._ids, torch.int64)
        return gather(hasher.number(int(r)) if rows.ndim == 1 else hasher.tokens(r) for r in rows)


class _Stripped:
    """Token ids (m, n) and which of them count."""

    def __init__(self, name: str, padded: Padded) -> None:
        self._ids = _own_ids(name, padded.ids)
        self._mask = _own_mask(name, padded.mask)
        self.nbytes = int(self._ids.nbytes) + int(self._mask.nbytes)

    def tensors(self) -> Iterator[torch.Tensor]:
        return _tensors([self._ids, self._mask])

    def hashes(self, hasher: Hasher) -> UIntArray:
        rows, masks = to_host(self._ids, torch.int64), to_host(self._mask, torch.bool)
        return gather(hasher.tokens(row[mask]) for row, mask in zip(rows, masks, strict=True))


class _Ragged:
    """Token ids of one tensor per event, gathered by one kernel."""

    def __init__(self, name: str, items: Sequence[torch.Tensor]) -> None:
        for item in items:
            _check_integers(name, item)
        if len({item.device for item in items}) > 1:
            raise EventError(name, "tensors of one device", "several")
        # torch.cat may return its only argument: the clone makes a copy in any case.
        detached = [item.detach() for item in items]
        self._flat = torch.cat(detached) if len(items) > 1 else detached[0].clone()
        self._ends = np.cumsum([item.shape[0] for item in items])
        self.nbytes = int(self._flat.nbytes)

    def tensors(self) -> Iterator[torch.Tensor]:
        yield self._flat

    def hashes(self, hasher: Hasher) -> UIntArray:
        flat = to_host(self._flat, torch.int64)
        return gather(hasher.tokens(ids) for ids in np.split(flat, self._ends[:-1]))


class _Texts:
    """str and bytes: nobody can change them, so only the list is copied."""

    def __init__(self, items: Sequence[str | bytes]) -> None:
        self._items = items
        self.nbytes = sum(map(sys.getsizeof, items))

    def tensors(self) -> Iterator[torch.Tensor]:
        return iter(())

    def hashes(self, hasher: Hasher) -> UIntArray:
        return gather(hasher.text(_utf8(item)) for item in self._items)


class _Listed:
    """Elements of any form, one by one."""

    def __init__(self, name: str, items: Sequence[Any], *, allows_none: bool) -> None:
        self._name = name
        self._items = [_own(name, item, allows_none) for item in items]
        self._tensors = list(_tensors(self._items))
        self.nbytes = sum(map(_size, self._items))

    def tensors(self) -> Iterator[torch.Tensor]:
        return iter(self._tensors)

    def hashes(self, hasher: Hasher) -> UIntArray:
        return gather(self._hash(item, hasher) for item in self._items)

    def _hash(self, item: Any, hasher: Hasher) -> bytes:
        if item is None:
            return bytes(HASH_BYTES)
        if isinstance(item, str | bytes):
            return hasher.text(_utf8(item))
        if isinstance(item, int):
            return hasher.number(item)
        ids = self._integers(item)
        return hasher.number(int(ids)) if ids.ndim == 0 else hasher.tokens(ids)

    def _integers(self, item: Any) -> npt.NDArray[Any]:
        if not isinstance(item, tuple):
            return to_host(item, torch.int64)
        try:
            # Four times as fast as np.array, and it takes nothing but integers.
            return np.asarray(array("q", item))
        except (TypeError, OverflowError, RuntimeError):
            raise EventError(self._name, "token ids", "something else in a sequence") from None


def _own(name: str, item: Any, allows_none: bool) -> Any:
    """Return `item` as something that nobody else can change."""
    if isinstance(item, str | bytes) or (item is None and allows_none):
        return item
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return int(item)
    if isinstance(item, torch.Tensor | np.ndarray):
        if item.ndim > 1:
            raise EventError(name, _ELEMENT, f"an element of shape {tuple(item.shape)}")
        return _own_ids(name, item)
    if isinstance(item, Sequence):
        return _own_tuple(name, item)
    raise EventError(name, _ELEMENT, f"an element of type {type(item).__name__}")


def _utf8(item: str | bytes) -> bytes:
    # Lone surrogates pass: a content must not decide whether its event can be counted.
    return item if isinstance(item, bytes) else item.encode("utf-8", "surrogatepass")


def _own_tuple(name: str, item: Sequence[Any]) -> tuple[Any, ...]:
    # The first element stands for all here: to look at each would cost more than all the rest of the call.
    if item and (isinstance(item[0], bool) or not isinstance(item[0], int | np.integer)):
        raise EventError(name, _ELEMENT, f"a sequence of {type(item[0]).__name__}")
    return tuple(item)


def _own_ids(name: str, ids: Kept) -> Kept:
    _check_integers(name, ids)
    if isinstance(ids, torch.Tensor):
        return ids.detach().clone()
    return np.array(ids, dtype=np.int64)


def _own_mask(name: str, mask: Any) -> Kept:
    # One byte a token instead of the eight of most masks; a comparison is a copy.
    if isinstance(mask, torch.Tensor):
        return mask.detach() != 0
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "biuf":
        return np.asarray(mask != 0)
    raise EventError(name, "a mask of numbers", type(mask).__name__)


def _check_integers(name: str, ids: Kept) -> None:
    if isinstance(ids, torch.Tensor):
        kind = ids.dtype
        is_integer = not (kind.is_floating_point or kind.is_complex or kind == torch.bool)
    else:
        is_integer = ids.dtype.kind in "iu"
    if not is_integer:
        raise EventError(name, "integers", str(ids.dtype))


def _size(item: Any) -> int:
    if isinstance(item, torch.Tensor | np.ndarray):
        return int(item.nbytes)
    return sys.getsizeof(item) + (_INT_BYTES * len(item) if isinstance(item, tuple) else 0)


def _tensors(items: Iterable[Any]) -> Iterator[torch.Tensor]:
    return (item for item in items if isinstance(item, torch.Tensor))
