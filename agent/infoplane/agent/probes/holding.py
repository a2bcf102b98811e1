"""Which part of a parameter a rank answers for, so that every element is counted once over all ranks.

| layout | this rank holds | and answers for |
|---|---|---|
| replicated (ZeRO 0, 1, 2, DDP) | all elements | its share of them: one of `shares` equal holders |
| ZeRO-3 | its slice of the flattened parameter, `ds_tensor` | the slice |
| tensor parallelism | its shard | as above, among the replicas of the shard |
| experts under expert parallelism | its experts | its share among the ranks with the same experts |

Parameters are read where they lie: never gathered, no collective. Checked with DeepSpeed 0.19.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from infoplane.agent.identity import Coordinates


class NotReadable(Exception):  # noqa: N818 - a finding, not a fault
    """The parameter cannot be read without help from other ranks; the message says why."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What this rank has of one parameter.

    Attributes:
        shape: of the parameter, or of this rank's shard of it.
        first: position of the first element held, in the flattened parameter.
        size: elements held.
        share: number of this rank among those that hold the same elements.
        shares: how many they are.
        shard: tells equal positions of different shards apart.
    """

    parameter: nn.Parameter
    shape: tuple[int, ...]
    first: int
    size: int
    share: int
    shares: int
    shard: int

    @property
    def numel(self) -> int:
        """Elements of the parameter, or of this rank's shard."""
        return int(torch.Size(self.shape).numel())

    def tensor(self) -> torch.Tensor:
        """Return the elements held, in any shape; where they are now, not a copy."""
        partition = getattr(self.parameter, "ds_tensor", None)
        if partition is None:
            return self.parameter.detach()
        held: torch.Tensor = partition.detach().reshape(-1)[: self.size]
        return held


def hold(parameter: nn.Parameter, at: Coordinates) -> Holding:
    """Return what the rank at `at` has of `parameter`; no collective.

    Raises:
        NotReadable: parts are quantised, on a disk, or placed in a way that is not known here.
    """
    if hasattr(parameter, "to_local"):
        raise NotReadable("parameters are DTensors")
    is_sharded = bool(getattr(parameter, "tensor_model_parallel", False))
    experts = _experts(parameter)
    replica, replicas = at.dp * at.sp_size + at.sp, at.dp_size * at.sp_size
    shard = at.tp if is_sharded else 0
    if getattr(parameter, "ds_tensor", None) is not None:
        return _partitioned(parameter, replicas, is_sharded or at.tp_size == 1, shard)
    if experts:
        share, shares, rank = experts
        return Holding(parameter, tuple(parameter.shape), 0, parameter.numel(), share, shares, rank)
    if not is_sharded:
        replica, replicas = replica * at.tp_size + at.tp, replicas * at.tp_size
    return Holding(
        parameter, tuple(parameter.shape), 0, parameter.numel(), replica, replicas, shard
    )


def _partitioned(parameter: Any, replicas: int, is_own: bool, shard: int) -> Holding:
    partition = parameter.ds_tensor
    place = getattr(partition, "final_location", None)
    if str(getattr(place, "value", place)) == "nvme":
        raise NotReadable("parameters are offloaded to a disk")
    if hasattr(partition, "ds_quant_scale"):
        raise NotReadable("parameters are quantised")
    ranks = dist.get_world_size(group=parameter.ds_process_group)
    if ranks != replicas or not is_own:
        raise NotReadable(f"parameters are cut up over {ranks} ranks, the batch over {replicas}")
    first = dist.get_rank(group=parameter.ds_process_group) * int(partition.ds_numel)
    # The last slices are padded.
    size = max(0, min(int(partition.ds_numel), int(parameter.ds_numel) - first))
    return Holding(parameter, tuple(parameter.ds_shape), first, size, 0, 1, shard)


def _experts(parameter: Any) -> tuple[int, int, int] | None:
    """Return (share, shares, expert-parallel rank) of a parameter of experts; None for all others."""
    if getattr(parameter, "allreduce", True) or not hasattr(parameter, "group_name"):
        return None
    from deepspeed.utils import groups

    name = parameter.group_name
    return (
        int(groups._get_expert_data_parallel_rank(name)),
        int(groups._get_expert_data_parallel_world_size(name)),
        int(groups._get_expert_parallel_rank(name)),
    )
