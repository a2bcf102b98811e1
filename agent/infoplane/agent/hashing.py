"""splitmix64, three times bit by bit the same: on Python integers, on numpy arrays and on torch tensors.

Used for row keys, the projection and token buckets, so that no random state of the training
process is touched.
Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB

UIntArray = npt.NDArray[np.uint64]


def mix(x: int) -> int:
    """Return the 64-bit hash of the low 64 bits of `x`; a bijection."""
    z = (x + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)


def chain(*parts: int) -> int:
    """Return one 64-bit hash of a sequence of integers; order matters."""
    state = 0
    for part in parts:
        state = mix(state ^ (part & _MASK))
    return state


def mix_array(x: UIntArray) -> UIntArray:
    """Return `mix` of every element of uint64 `x`; same shape."""
    z = x + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


def mix_tensor(x: torch.Tensor) -> torch.Tensor:
    """Return `mix` of every element of int64 `x`, read as unsigned; same shape, any device, no sync."""
    z = x + signed(_GAMMA)
    z = (z ^ shift_right(z, 30)) * signed(_FIRST)
    z = (z ^ shift_right(z, 27)) * signed(_SECOND)
    return z ^ shift_right(z, 31)


def shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Return int64 `x` shifted right by `bits` (1..63) with zeros coming in; torch itself shifts in the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def signed(x: int) -> int:
    """Return the two's complement of the 64-bit unsigned `x`: what an int64 tensor holds."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x
