"""Starts the ranks of a demo's training job beside a running pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from infoplane.cli.child import Child
from infoplane.cli.demo.options import RANKS
from infoplane.cli.pipeline import Pipeline


def start_ranks(
    pipeline: Pipeline, module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> Child:
    """Start two ranks of `module`, as a child of `pipeline`, and return it.

    Args:
        pipeline: where records go.
        module: what each rank runs.
        arguments: of the module.
        environment: variables besides those that every demo needs.
    """
    everywhere = {
        **pipeline.environment,
        "INFOPLANE_ENABLED": "1",
        "INFOPLANE_TRANSPORT": "kafka",
        "INFOPLANE_SAMPLING__BASE_LEVEL": "0",
        "INFOPLANE_GOVERNOR__ENABLED": "0",
        # Two ranks on two cores: one thread each, on the CPU also where a GPU is.
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(RANKS)]
    command = [sys.executable, *launcher, "-m", module, *arguments]
    job = Child("training", command, pipeline.directory, environment={**everywhere, **environment})
    pipeline.add(job)
    return job
