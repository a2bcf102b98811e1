"""One call of the monitor: what was observed, as copies that belong to the agent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infoplane.agent.projection import Projection
from infoplane.agent.rewards.contents import HeldContents, hold, size_of
from infoplane.agent.rewards.device import Kept
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.kinds import PREFERENCES, EventKind
from infoplane.agent.rewards.masks import checked_mask, count_tokens
from infoplane.agent.rewards.numbers import hold_features, hold_numbers


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call, by column; None = not given. `mask` (m, s) is that of the numbers of tokens."""

    kind: EventKind
    stream: str
    contents: Mapping[str, Any]
    numbers: Mapping[str, Any]
    features: Mapping[str, Any]
    mask: Any = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What one call observed: m events.

    Attributes:
        size: m.
        time_ms: of the call, Unix milliseconds.
        contents: by column; empty with tokens.mode = none, and without the columns that were not given.
        numbers: by column, (m,).
        features: by column, float32 (m, k).
    """

    kind: EventKind
    stream: str
    step: int
    size: int
    time_ms: int
    contents: Mapping[str, HeldContents]
    numbers: Mapping[str, Kept]
    features: Mapping[str, torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Return about how many bytes it holds, on the host and on devices."""
        arrays = sum(int(kept.nbytes) for kept in (*self.numbers.values(), *self.features.values()))
        return arrays + sum(held.nbytes for held in self.contents.values())

    @property
    def form(self) -> str:
        """Return kind, columns and widths: what all calls of a stream share."""
        wide = (f"{name} of {kept.shape[1]}" for name, kept in self.features.items())
        told = (name for name in self.contents if name in self.kind.extras)
        return ", ".join([self.kind.name, *sorted(told), *sorted(self.numbers), *sorted(wide)])

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield the tensors in it, which may be on a device."""
        for held in self.contents.values():
            yield from held.tensors()
        for kept in self.numbers.values():
            if isinstance(kept, torch.Tensor):
                yield kept
        yield from self.features.values()


def take(call: Call, step: int, projection: Projection, *, is_private: bool) -> Observation:
    """Return copies of what `call` holds; no host sync. With `is_private`, contents are counted and not kept.

    Raises:
        EventError: a length, shape, type or the step is wrong.
    """
    size = _checked_size(call)
    contents = {} if is_private else {
        name: hold(name, values, allows_none=name in call.kind.blank)
        for name, values in call.contents.items()
        if values is not None
    }  # fmt: skip
    return Observation(
        call.kind,
        call.stream,
        _checked_step(step),
        size,
        time.time_ns() // 1_000_000,
        contents,
        _held_numbers(call, size),
        {
            name: hold_features(name, values, size, projection)
            for name, values in call.features.items()
            if values is not None
        },
    )


def _checked_size(call: Call) -> int:
    given = {n: v for n, v in call.contents.items() if v is not None or not call.kind.may_lack(n)}
    sizes = {name: size_of(name, values) for name, values in given.items()}
    if len(set(sizes.values())) > 1:
        raise EventError("lengths", "equal ones", ", ".join(f"{n} {k}" for n, k in sizes.items()))
    for name in call.kind.required:
        if call.numbers.get(name) is None:
            raise EventError(name, "one number per event", "nothing")
    return next(iter(sizes.values()))


def _checked_step(step: Any) -> int:
    # A tensor is refused, because reading it could wait for the device.
    is_integer = isinstance(step, int | np.integer)
    if not is_integer or not 0 <= step < 1 << 63:
        found = str(step) if is_integer else type(step).__name__
        raise EventError("step", "an integer from 0 to 2^63 - 1", found)
    return int(step)


def _held_numbers(call: Call, size: int) -> dict[str, Kept]:
    mask, kind = checked_mask(call.mask, size), call.kind
    held = {
        name: hold_numbers(name, values, size, mask, sums=name in kind.summed)
        for name, values in call.numbers.items()
        if values is not None
    }
    if mask is not None and kind.counted:
        held.setdefault(kind.counted, count_tokens(mask))
    if call.kind is PREFERENCES:
        held.setdefault("weight", np.ones(size))
    return held
