"""Shared memory in which one process lays messages down and another reads them, first in, first out."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Sequence


class Ring:
    """Anonymous shared memory: it has no name, so nothing is left behind whoever dies, and /dev/shm is not needed.

    The writer keeps the books; the reader is told where to read and tells how many it has read.

    Args:
        fd: of the memory; the ring owns it.
        nbytes: size.
    """

    def __init__(self, fd: int, nbytes: int) -> None:
        self.fd = fd
        self.nbytes = nbytes
        self._memory = mmap.mmap(fd, nbytes)
        self._held: deque[tuple[int, int]] = deque()  # (start, end), oldest first

    @classmethod
    def create(cls, nbytes: int) -> Ring:
        """Return a new ring; its pages cost memory when they are first written to.

        Raises:
            OSError: the system has no memory for it.
        """
        fd = os.memfd_create("infoplane-sidecar")
        os.ftruncate(fd, nbytes)
        return cls(fd, nbytes)

    def place(self, parts: Sequence[bytes]) -> int | None:
        """Lay `parts` down one after the other and return where they begin; None if they do not fit now."""
        size = sum(len(part) for part in parts)
        start = self._find(size)
        if start is None:
            return None
        place = start
        for part in parts:
            self._memory[place : place + len(part)] = part
            place += len(part)
        self._held.append((start, place))
        return start

    def free(self, count: int) -> None:
        """Let go of the `count` oldest messages."""
        for _ in range(min(count, len(self._held))):
            self._held.popleft()

    def read(self, start: int, nbytes: int) -> bytes:
        """Return a copy of what lies at `start`."""
        return self._memory[start : start + nbytes]

    def clear(self) -> None:
        """Let go of everything: the reader is gone."""
        self._held.clear()

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.fd)

    def __len__(self) -> int:
        return len(self._held)

    def _find(self, size: int) -> int | None:
        """Return the start of `size` free bytes in a row; the lowest pages first, so that few are ever touched."""
        if not self._held:
            return 0 if size <= self.nbytes else None
        oldest, newest = self._held[0][0], self._held[-1][1]
        if newest > oldest:
            if size <= self.nbytes - newest:
                return newest
            return 0 if size <= oldest else None
        return newest if size <= oldest - newest else None
