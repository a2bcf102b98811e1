"""Ties a process to its parent: whoever starts processes can then leave none behind.

Run as a program it ties itself to `PARENT_PID`, lowers its priority by `NICENESS` and becomes `COMMAND`:

    python -I -S lifeline.py PARENT_PID NICENESS COMMAND...

That is a program of its own because a `preexec_fn` would run Python in a fork of a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(sign: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send `sign` to this process when the thread that started it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(sign), 0, 0, 0)


def _become(parent: int, niceness: int, command: list[str]) -> None:
    die_with_parent()
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.nice(niceness)
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
