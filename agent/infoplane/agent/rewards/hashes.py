"""Keyed 64-bit hashes of contents: BLAKE2b with the deployment's key seed.

    text      the UTF-8 bytes, so a str and its bytes agree
    number    an id of the user's own
    tokens    the ids as 64-bit little-endian, so lists, arrays and tensors of any integer type agree

Each form has a domain of its own: the number 5, the text "5" and the tokens [5] differ. Two of m distinct contents
share a hash with probability m^2 / 2^65. Who knows the seed can test guesses of a content against its hash.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

UIntArray = npt.NDArray[np.uint64]
HASH_BYTES: Final = 8
_PERSON: Final = b"infoplane.event"
_BREATH: Final = (
    64  # rows between two offers of the GIL to the training thread; a hash costs about 2.5 us
)


class Hasher:
    """Hashes with one key. About 2.5 us a content, and 1 ns a byte.

    Args:
        key_seed: 0 .. 2^64 - 1.
    """

    def __init__(self, key_seed: int) -> None:
        self._key = key_seed.to_bytes(8, "little")
        self._text, self._number, self._tokens = map(self._begin, ("text", "number", "tokens"))

    def text(self, data: bytes) -> bytes:
        """Return the hash of a text, 8 bytes as all hashes here."""
        return _finish(self._text, data)

    def number(self, number: int) -> bytes:
        """Return the hash of an id of the user's own, of any size."""
        return _finish(self._number, b"%d" % number)

    def tokens(self, ids: npt.NDArray[Any]) -> bytes:
        """Return the hash of integer `ids` (n,)."""
        return _finish(self._tokens, np.ascontiguousarray(ids, dtype="<i8").tobytes())

    def rows(self, domain: str, words: Sequence[UIntArray]) -> UIntArray:
        """Return one hash per event, uint64 (m,), of columns of words, each uint64 (m,)."""
        data = np.stack(words, axis=1).astype("<u8").tobytes()
        width, begun = 8 * len(words), self._begin(domain)
        starts = range(0, len(data), width)
        return gather(_finish(begun, data[start : start + width]) for start in starts)

    def _begin(self, domain: str) -> hashlib.blake2b:
        return hashlib.blake2b(
            f"{domain}:".encode(), digest_size=HASH_BYTES, key=self._key, person=_PERSON
        )


def gather(hashes: Iterable[bytes]) -> UIntArray:
    """Return hashes as uint64 (m,); offers the GIL now and then, or a busy thread would keep it for 5 ms at a time."""
    found = []
    for place, value in enumerate(hashes):
        if place % _BREATH == _BREATH - 1:
            time.sleep(0)
        found.append(value)
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)


def _finish(begun: hashlib.blake2b, data: bytes) -> bytes:
    state = begun.copy()
    state.update(data)
    return state.digest()
