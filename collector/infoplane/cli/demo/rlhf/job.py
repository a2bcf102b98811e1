"""One rank of the preference demo, started by torchrun.

    torchrun --standalone --nproc_per_node 2 -m infoplane.cli.demo.rlhf.job --name mine --steps 512

Where records go comes from the environment, as for any job: `INFOPLANE_KAFKA__BOOTSTRAP_SERVERS`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist

from infoplane.cli.demo.batches import Shard
from infoplane.cli.demo.process_group import join_process_group, leave_process
from infoplane.cli.demo.rlhf.criterion import Criterion
from infoplane.cli.demo.rlhf.following import follow_reward
from infoplane.cli.demo.rlhf.models import LENGTH, new_policy
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.cli.demo.rlhf.preferring import learn_preferences
from infoplane.cli.demo.rlhf.prompts import Prompter
from infoplane.cli.demo.rlhf.scene import Scene
from infoplane.cli.demo.status import StatusWriter
from infoplane.cli.demo.text import standard_library_text
from infoplane.cli.demo.training import initialise_engine
from infoplane.cli.lifeline import die_with_parent

_BATCH: Final = 16
_RATE: Final = 3e-3
_TEXT_BYTES: Final = 4 << 20


def main() -> None:
    """Run this rank to its end and leave the process."""
    die_with_parent()
    arguments = _arguments()
    torch.set_num_threads(1)
    join_process_group()
    rank, world = dist.get_rank(), dist.get_world_size()
    plan = RlhfPlan(arguments.steps)
    out = StatusWriter(arguments.status if rank == 0 else None)
    text = standard_library_text(_TEXT_BYTES)
    scene = Scene(
        arguments.name,
        plan,
        Prompter(text, rank, arguments.seed),
        Criterion.of_text(text.tobytes()),
        out,
    )
    policy = new_policy(arguments.seed)
    engine = initialise_engine(policy, _BATCH, _RATE)
    out.write(event="started", steps=plan.steps, planted_step=plan.planted_step, ranks=world)
    write_text(engine, scene, Shard(text, rank, world, arguments.seed, _BATCH, LENGTH))
    model = learn_preferences(scene, policy)
    follow_reward(scene, engine, policy, model)
    out.write(event="finished")
    out.close()
    leave_process()


def write_text(engine: Any, scene: Scene, shard: Shard) -> None:
    """Phase 1: the policy learns to write, before anybody watches."""
    for step in range(scene.plan.supervised_steps):
        loss = engine(*shard.at(step))
        engine.backward(loss)
        engine.step()
        scene.out.write(phase="supervised", step=step, loss=round(float(loss.detach()), 4))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="infoplane.cli.demo.rlhf.job", description=__doc__)
    parser.add_argument("--name", default="preferences", help="of the runs")
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--status", type=Path, help="file for progress lines of rank 0")
    return parser.parse_args()


if __name__ == "__main__":
    main()
