"""How a sidecar is started, and what it is told."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from dataclasses import dataclass

from infoplane.agent.settings import Settings
from infoplane.agent.sidecar.ring import Ring

# The rank's own main module must not run again, as it would with multiprocessing's spawn.
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from infoplane.agent.sidecar.service import main
main({talk}, {ring}, {nbytes}, {parent})
"""


@dataclass(frozen=True, slots=True)
class Start:
    """What a sidecar needs to know to build its transport.

    Attributes:
        settings: the rank's settings.
        run: name of the run.
        rank: global rank.
    """

    settings: Settings
    run: str
    rank: int

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads; between two processes of one installation."""
        return pickle.dumps((self.settings, self.run, self.rank))

    @classmethod
    def from_bytes(cls, data: bytes) -> Start:
        """Return what `to_bytes` was called on."""
        return cls(*pickle.loads(data))  # noqa: S301 - from the process that started this one


def is_possible() -> bool:
    """Return whether this system can start sidecars: Linux, and a Python that can be executed."""
    return hasattr(os, "memfd_create") and bool(sys.executable)


def launch(ring: Ring) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a sidecar that reads from `ring`; return its process, and the socket to talk to it. About 2 ms.

    Raises:
        OSError: it could not be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        program = _PROGRAM.format(
            path=sys.path,
            talk=theirs.fileno(),
            ring=ring.fd,
            nbytes=ring.nbytes,
            parent=os.getpid(),
        )
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                pass_fds=(theirs.fileno(), ring.fd),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            )
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    return process, ours
