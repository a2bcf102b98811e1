"""Where a rank of a DeepSpeed job stands, and which blocks it has: the one resolver of coordinates.

Asked in this order: the pipeline's grid, a Megatron-like `mpu`, Ulysses' `mpu`, DeepSpeed's groups, plain data
parallelism. Expert parallelism lies inside data parallelism and changes no other coordinate.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

from torch import nn

from infoplane.agent.identity import Coordinates, data_parallel_coordinates
from infoplane.agent.taps import Block, Stack

_log = logging.getLogger("infoplane.agent")


def is_pipeline(engine: Any) -> bool:
    """Return whether `engine` is a PipelineEngine."""
    return any(kind.__name__ == "PipelineEngine" for kind in type(engine).__mro__)


def coordinates(engine: Any) -> Coordinates:
    """Return where this rank stands."""
    plain = data_parallel_coordinates()
    if plain.world == 1:
        return plain
    for ask in (_of_grid, _of_mpu, _of_sequence_parallel, _of_tensor_parallel):
        found = ask(engine, plain)
        if found is not None:
            return _with_experts(found)
    return _with_experts(plain)


def _of_grid(engine: Any, plain: Coordinates) -> Coordinates | None:
    grid = getattr(engine, "grid", None)
    if grid is None or not is_pipeline(engine):
        return None
    return replace(
        plain,
        dp=grid.get_data_parallel_rank(),
        dp_size=grid.get_data_parallel_world_size(),
        tp=grid.get_slice_parallel_rank(),
        tp_size=grid.get_slice_parallel_world_size(),
        pp=grid.get_stage_id(),
        pp_size=grid.pipe_parallel_size,
    )


def _of_mpu(engine: Any, plain: Coordinates) -> Coordinates | None:
    """Ask an object like Megatron's parallel_state; one that names data-parallel ranks is trusted."""
    mpu = getattr(engine, "mpu", None)
    if not hasattr(mpu, "get_data_parallel_rank") or hasattr(mpu, "initialize_sequence_parallel"):
        return None
    if getattr(mpu, "__name__", "") == "deepspeed.utils.groups":
        return None  # AutoTP puts the module of groups there
    tp, tp_size = _rank_and_size(mpu, "tensor_model", "model")
    pp, pp_size = _rank_and_size(mpu, "pipeline_model", "pipe")
    sp, sp_size = _rank_and_size(mpu, "context", "sequence")
    dp, dp_size = _rank_and_size(mpu, "data")
    return replace(
        plain, dp=dp, dp_size=dp_size, tp=tp, tp_size=tp_size, pp=pp, pp_size=pp_size,
        sp=sp, sp_size=sp_size,
    )  # fmt: skip


def _rank_and_size(mpu: Any, *names: str) -> tuple[int, int]:
    for name in names:
        rank = getattr(mpu, f"get_{name}_parallel_rank", None)
        size = getattr(mpu, f"get_{name}_parallel_world_size", None)
        if rank is not None and size is not None:
            return int(rank()), int(size())
    return 0, 1


def _of_sequence_parallel(engine: Any, plain: Coordinates) -> Coordinates | None:
    """Ulysses: neighbouring ranks share a batch. Its data-parallel rank is not to be trusted: it is the global one."""
    size = int(getattr(engine, "sequence_parallel_size", 1) or 1)
    if size == 1:
        return None
    mpu, groups = getattr(engine, "mpu", None), _groups()
    ask = getattr(mpu, "get_sequence_parallel_rank", None) or groups._get_sequence_parallel_rank
    return replace(
        plain, sp=int(ask()), sp_size=size, dp=plain.rank // size, dp_size=plain.world // size
    )


def _of_tensor_parallel(engine: Any, plain: Coordinates) -> Coordinates | None:
    size = int(getattr(engine, "mp_world_size", 1) or 1)
    if size == 1:
        return None
    groups = _groups()
    return replace(
        plain,
        tp=int(groups.get_tensor_model_parallel_rank()),
        tp_size=size,
        dp=int(groups.get_data_parallel_rank()),
        dp_size=int(groups.get_data_parallel_world_size()),
    )


def _with_experts(found: Coordinates) -> Coordinates:
    """Add the expert-parallel rank of the largest group of experts."""
    groups = _groups()
    sizes = {
        name: int(groups._get_expert_parallel_world_size(name))
        for name in groups._get_expert_parallel_group_dict()
    }
    if not sizes:
        return found
    name = max(sizes, key=lambda key: sizes[key])
    return replace(
        found, ep=int(groups._get_expert_parallel_rank(name)), ep_size=max(sizes[name], 1)
    )


def _groups() -> Any:
    from deepspeed.utils import groups

    return groups


def pipeline_stack(engine: Any) -> Stack | None:
    """Return the blocks of a PipelineModule: the layers of the class that most layers have."""
    module = engine.module
    kinds = [_kind(spec) for spec in module._layer_specs]
    counted = Counter(kind for kind in kinds if kind is not None)
    if not counted:
        return None
    kind, _ = counted.most_common(1)[0]
    numbers = [place for place, found in enumerate(kinds) if found is kind]
    index_of = {place: index for index, place in enumerate(numbers)}
    stages = tuple(
        _between(numbers, start, stop)
        for start, stop in zip(module.parts[:-1], module.parts[1:], strict=True)
    )
    blocks = tuple(
        Block(index_of[place], str(place), layer)
        for place, layer in enumerate(module.forward_funcs, start=module._local_start)
        if place in index_of and isinstance(layer, nn.Module)
    )
    return Stack(blocks, len(numbers), stages, engine.grid.get_stage_id())


def _kind(spec: Any) -> type | None:
    """Return the class of a layer; None for a function, which no hook can see."""
    if isinstance(spec, nn.Module):
        return type(spec)
    kind = getattr(spec, "typename", None)
    return kind if isinstance(kind, type) else None


def _between(numbers: list[int], start: int, stop: int) -> range:
    inside = [index for index, place in enumerate(numbers) if start <= place < stop]
    return range(inside[0], inside[-1] + 1) if inside else range(0)
