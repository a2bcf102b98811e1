"""Who speaks: run, attempt, coordinates and sender; agreed through the rendezvous store, without a collective."""

from __future__ import annotations

import itertools
import logging
import os
import time
from dataclasses import dataclass, fields
from typing import Any, Final

import torch.distributed as dist

from infoplane.agent import rendezvous
from infoplane.agent.settings import Settings
from infoplane.wire import infoplane_pb2 as pb

_attached: Final = itertools.count()
_NAME_WAIT_S: Final = 3.0
_NAME_POLL_S: Final = 0.02
REMEDY: Final = (
    "Launchers do not forward INFOPLANE_ variables to other nodes: list them in .deepspeed_env, or put the settings "
    'into the "infoplane" section of the DeepSpeed config.'
)
_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where a rank stands in the parallel layout, and the layout's sizes."""

    rank: int = 0
    world: int = 1
    dp: int = 0
    dp_size: int = 1
    tp: int = 0
    tp_size: int = 1
    pp: int = 0
    pp_size: int = 1
    sp: int = 0
    sp_size: int = 1
    ep: int = 0
    ep_size: int = 1

    @property
    def pieces(self) -> int:
        """Number of pieces that a step's tokens are cut into: each is sampled for itself."""
        return self.dp_size * self.sp_size

    def to_wire(self) -> pb.Coordinates:
        """Return the wire form."""
        return pb.Coordinates(**{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Identity:
    """The name under which this rank speaks for the whole attempt.

    Attributes:
        run: name of the run, equal on all ranks.
        attempt: grows with every restart, equal on all ranks.
        coordinates: of this rank.
    """

    run: str
    attempt: int
    coordinates: Coordinates


def resolve(settings: Settings, coordinates: Coordinates) -> Identity:
    """Return the identity of this rank.

    A few round trips to the store. A rank without a name for the run waits at most 3 s to see whether another one has.
    """
    check_sizes(coordinates)
    now_ms = time.time_ns() // 1_000_000
    # Engines may follow each other in one process: every attach has its own entries.
    place = next(_attached)
    run = _agree_run(settings.run, place, coordinates.world, now_ms)
    return Identity(run, _agree_attempt(settings.attempt, run, place, now_ms), coordinates)


def _agree_attempt(wanted: int | None, run: str, place: int, now_ms: int) -> int:
    """Return the attempt, equal on all ranks: the number that the first one brought, told or made up."""
    # An elastic restart keeps the store and must get a later number.
    key = f"attempt/{run}/{rendezvous.restart()}/{place}"
    found = int(rendezvous.agree(key, str(now_ms if wanted is None else wanted)))
    if wanted is not None and found != wanted:
        _log.error(
            "infoplane: this rank was told to be attempt %d, but another rank said %d first, which is used. %s",
            wanted, found, REMEDY,
        )  # fmt: skip
    return found


def _agree_run(wanted: str | None, place: int, world: int, now_ms: int) -> str:
    """Return the run's name, equal on all ranks; a name that somebody was given wins over a made-up one."""
    key = f"run/{place}"
    if wanted is not None:
        found = rendezvous.agree(key, wanted)
        if found != wanted:
            _log.error(
                "infoplane: this rank was told to be run %r, but another rank said %r first, which is "
                "used. %s",
                wanted, found, REMEDY,
            )  # fmt: skip
        return found
    store = rendezvous.store()
    if store is not None:
        _await_name(store, key, world)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_ms / 1000))
    suffix = f"-{place}" if place else ""
    return rendezvous.agree(key, f"run-{stamp}-{os.getpid()}{suffix}")


def _await_name(store: Any, key: str, world: int) -> None:
    """Wait until somebody has named the run, all ranks are known to have no name, or time is up."""
    nameless = f"{rendezvous.PREFIX}/{key}/nameless/{rendezvous.restart()}"
    deadline = time.monotonic() + _NAME_WAIT_S
    count = store.add(nameless, 1)
    while count < world and not store.check([f"{rendezvous.PREFIX}/{key}"]):
        if time.monotonic() >= deadline:
            return
        time.sleep(_NAME_POLL_S)
        count = store.add(nameless, 0)


def data_parallel_coordinates() -> Coordinates:
    """Return the coordinates under plain data parallelism: every rank is one replica."""
    if dist.is_available() and dist.is_initialized():
        rank, world = dist.get_rank(), dist.get_world_size()
    else:
        rank = int(os.environ.get("RANK", "0"))
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world > 1:
            _log.error(
                "infoplane: WORLD_SIZE is %d but torch.distributed is not initialised: ranks cannot agree on "
                "run and attempt; call attach() after init_process_group, or set INFOPLANE_RUN and "
                "INFOPLANE_ATTEMPT",
                world,
            )
    return Coordinates(rank=rank, world=world, dp=rank, dp_size=world)


def check_sizes(at: Coordinates) -> bool:
    """Return whether the sizes of the layout multiply to the world; log an error if not."""
    product = at.dp_size * at.tp_size * at.pp_size * at.sp_size
    if product == at.world:
        return True
    _log.error(
        "infoplane: parallel sizes dp %d x tp %d x pp %d x sp %d = %d do not make the world of %d ranks: "
        "windows of this run will be incomplete or count rows twice",
        at.dp_size, at.tp_size, at.pp_size, at.sp_size, product, at.world,
    )  # fmt: skip
    return False
