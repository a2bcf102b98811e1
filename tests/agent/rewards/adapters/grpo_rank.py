"""One rank of a GRPO job under a monitor; prints what it sent as JSON. Started by test_trl_ranks.py."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


def main(folder: str) -> None:
    from infoplane.agent.rewards.adapters.trl import observe_trainer

    path = Path(__file__).with_name("conftest.py")
    sys.path.insert(0, str(path.parents[2]))  # the settings that it imports
    spec = importlib.util.spec_from_file_location("lab", path)
    assert spec is not None
    assert spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    rank, seen = int(os.environ["RANK"]), []

    def judge(completions: list[str], **_: Any) -> list[float]:
        found = [float(len(text) % 7) + 10 * rank for text in completions]
        seen.extend(found)
        return found

    options = {"num_generations": 2, "max_completion_length": 8, "beta": 0.1}
    trainer = conftest.Lab(Path(folder)).trainer("GRPO", rewards=judge, **options)
    watched = conftest.Watched(trainer.model)
    observe_trainer(trainer, watched.monitor)
    trainer.train()
    events = watched.events()
    told = {
        "rank": rank,
        "seen": seen,
        "rewards": events["rollouts"]["reward"].tolist(),
        "ids": [str(i) for i in events["rollouts"]["id"].tolist()],
        "responses": [str(i) for i in events["rollouts"]["response"].tolist()],
        "lost": [str(i) for i in events["rollouts.loss"]["response"].tolist()],
    }
    Path(folder, f"rank{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
