"""One rank of the demo's training job, started by torchrun.

    torchrun --standalone --nproc_per_node 2 -m infoplane.cli.demo.job --steps 400 --fault lr

Where records go and what the run is called comes from the environment, as for any job:
`INFOPLANE_KAFKA__BOOTSTRAP_SERVERS`, `INFOPLANE_RUN`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist

from infoplane.cli.demo.batches import Shard
from infoplane.cli.demo.plan import FAULTS, Plan
from infoplane.cli.demo.process_group import join_process_group, leave_process
from infoplane.cli.demo.status import StatusWriter
from infoplane.cli.demo.text import standard_library_text
from infoplane.cli.demo.training import Shape, initialise_engine, steps_for, train
from infoplane.cli.lifeline import die_with_parent


def main() -> None:
    """Run this rank to its end and leave the process."""
    die_with_parent()
    arguments = _arguments()
    torch.set_num_threads(1)
    join_process_group()
    rank, world = dist.get_rank(), dist.get_world_size()
    shape = Shape(width=arguments.width)
    model = shape.model(arguments.seed)
    text = standard_library_text()
    shard = Shard(
        text, rank, world, arguments.seed, shape.batch, shape.length, arguments.shuffle_labels
    )
    steps = arguments.steps
    if arguments.duration is not None:
        steps = steps_for(arguments.duration, model, shard)
    plan = Plan(steps, fault=arguments.fault)
    out = StatusWriter(arguments.status if rank == 0 else None)
    engine = initialise_engine(model, shape.batch)
    out.write(event="started", steps=plan.steps, fault_step=plan.fault_step, ranks=world)
    train(engine, model, plan, shard, out)
    out.write(event="finished")
    out.close()
    leave_process()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="infoplane.cli.demo.job", description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--duration", type=float, help="seconds of training, instead of --steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--shuffle-labels", action="store_true")
    parser.add_argument("--status", type=Path, help="file for progress lines of rank 0")
    return parser.parse_args()


if __name__ == "__main__":
    main()
