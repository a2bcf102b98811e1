"""Three ranks on one line: a payload reaches all of them or none. This file is the worker too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

RANKS = 3
BEATS = 20

pytestmark = pytest.mark.integration


def test_when_a_rank_is_gone_no_other_gets_the_payload(tmp_path: Path) -> None:
    """A broadcast alone would have reached rank 1; and ranks with an unfinished operation still exit."""
    workers = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)])
        for rank in range(RANKS)
    ]
    try:
        for worker in workers:
            worker.wait(200)  # their operation would go on for an hour
    finally:
        for worker in workers:
            worker.kill()
    found = [(tmp_path / f"result-{rank}").read_text() for rank in range(RANKS)]
    assert found == ["20 none", "20 none", "20 left"]
    # gloo's threads may abort the interpreter's exit (-6) after a good run, but they may not hold it up.
    assert {worker.returncode for worker in workers} <= {0, -6}


def work(rank: int, folder: Path) -> None:
    import torch.distributed as dist

    from infoplane.agent.control.group import Gloo

    store = dist.FileStore(str(folder / "store"), RANKS)
    line = Gloo(store, "p", rank, RANKS, 30.0)
    received = 0
    for number in range(BEATS):
        payload = bytes([number]) * (number * 45)  # from nothing to nearly full
        line.post(payload if rank == 0 else b"")
        received += line.collect(30.0) == payload
    if rank == RANKS - 1:
        end = "left"
        time.sleep(3.0)  # it is there, but no longer takes part
    else:
        line.post(b"command" if rank == 0 else b"")
        try:
            line.collect(1.0)
            end = "payload"
        except RuntimeError:
            end = "none"
    (folder / f"result-{rank}").write_text(f"{received} {end}")
    line.close(0.1)


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
