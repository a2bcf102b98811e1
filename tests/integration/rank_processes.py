"""What tests need to start the ranks of a training job as processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
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


class RanksError(Exception):
    """The ranks did not finish; the message is the end of their logs."""


def run_ranks(
    arguments: Callable[[int], list[str]],
    ranks: int,
    folder: Path,
    *,
    result: str = "result-{rank}.json",
    patience_s: float = 280,
) -> None:
    """Run `python *arguments(rank)` for every rank, and wait until each has written its `result` into `folder`.

    Native threads may abort the interpreter's exit after a good run, so the files are the judge, not the exit codes.

    Raises:
        RanksError: a file is missing.
    """
    workers = []
    for rank in range(ranks):
        own = rank_environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
        with (folder / f"log-{rank}").open("wb") as log:
            command = [sys.executable, *arguments(rank)]
            workers.append(subprocess.Popen(command, env=own, stdout=log, stderr=log))
    files = [folder / result.format(rank=rank) for rank in range(ranks)]
    deadline = time.monotonic() + patience_s
    try:
        while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
            pairs = zip(workers, files, strict=True)
            if any(worker.poll() and not file.exists() for worker, file in pairs):
                break  # one failed, and the others wait for it
            time.sleep(0.1)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if not all(file.exists() for file in files):
        logs = [(folder / f"log-{rank}").read_text()[-3000:] for rank in range(ranks)]
        raise RanksError("\n".join(logs))
