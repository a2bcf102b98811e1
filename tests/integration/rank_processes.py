"""What tests need to start the ranks of a training job as processes of their own."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def rank_environment(**own: str) -> dict[str, str]:
    """Return the environment of a rank on the CPU: ours, none of the agent's variables but those in `own`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INFOPLANE_")}
    return kept | {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        # DeepSpeed looks for ninja on the path.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **own,
    }


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
