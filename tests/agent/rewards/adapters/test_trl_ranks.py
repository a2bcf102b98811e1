"""TRL on two ranks: rewards are gathered over all of them, and each tells of its own rows only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_every_rank_tells_of_its_own_responses(lab: Any) -> None:
    lab.model()  # on two ranks only the first would save it
    job = Path(__file__).with_name("grpo_rank.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(job), str(lab.folder)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = [json.loads((lab.folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    for one in told:
        assert len(one["seen"]) == lab.batch * lab.steps
        assert one["rewards"] == one["seen"]
        assert sorted(one["lost"]) == sorted(one["responses"])
    assert len({i for one in told for i in one["ids"]}) == 2 * lab.batch * lab.steps
