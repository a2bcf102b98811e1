"""From an observation to framed messages: hashes, identity, byte budget, split. Runs in the publisher thread.

A message holds at most about 400 KB; a call that needs more becomes several. `seq` counts messages. The events that
the budget refuses are stated in `offered` of the call's first message, so over the messages of a call `offered` sums
to the events of the call; a call that nothing is left of still sends a message, without rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.counters import Counters
from infoplane.agent.records import Envelope
from infoplane.agent.rewards.budget import ByteBucket
from infoplane.agent.rewards.device import to_host
from infoplane.agent.rewards.hashes import Hasher, UIntArray
from infoplane.agent.rewards.observation import Observation
from infoplane.agent.transports.base import Outgoing
from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import EVENTS, Names, event_key

MAX_MESSAGE_BYTES: Final = 400_000
_HEAD_BYTES: Final = 800  # at most, of frame, key, head and the names of columns

Columns = Mapping[str, npt.NDArray[Any]]


class EventEncoder:
    """Encodes the observations of one rank, in the order in which they come.

    Args:
        envelope: who speaks.
        counters: where events beyond the budget are counted.
        clock: of the budget, seconds.
    """

    def __init__(
        self, envelope: Envelope, counters: Counters, clock: Callable[[], float] = time.monotonic
    ) -> None:
        settings = envelope.settings
        self._envelope = envelope
        self._counters = counters
        self._is_private = settings.tokens.mode == "none"
        self._hasher = Hasher(settings.sampling.key_seed)
        self._bucket = ByteBucket(settings.events.bytes_per_s, clock)
        self._topic = Names(settings.kafka.topic_prefix).of(EVENTS)
        self._seq: dict[str, int] = {}
        self._placed: dict[str, tuple[int, int]] = {}  # by stream: step, events of it so far

    def encode(self, seen: Observation) -> list[Outgoing]:
        """Return the messages of `seen`, at least one. About 2.5 us an id and content, and a copy of its columns.

        Raises:
            EventError: a sequence of token ids holds something else.
        """
        hashed = self._hashed(seen)
        ids = self._ids(seen, hashed)
        columns = {**hashed, **_numbers(seen)}
        row_bytes = sum(int(array[0].nbytes) for array in (ids, *columns.values()))
        kept = smallest(ids, int((self._bucket.available() - _HEAD_BYTES) // row_bytes))
        parts = list(split(kept, (MAX_MESSAGE_BYTES - _HEAD_BYTES) // row_bytes))
        refused = seen.size - len(kept)
        messages = []
        for number, part in enumerate(parts):
            offered = len(part) + (refused if number == 0 else 0)
            messages.append(self._message(seen, ids, columns, part, offered))
            time.sleep(0)  # lets the training thread have the GIL
        self._bucket.spend(sum(message.nbytes for message in messages))
        if refused:
            self._counters.add("events_dropped", "budget", refused)
        return messages

    def _hashed(self, seen: Observation) -> dict[str, UIntArray]:
        if self._is_private:
            return {}
        found = {name: held.hashes(self._hasher) for name, held in seen.contents.items()}
        for name in seen.kind.blank:
            found.setdefault(name, np.zeros(seen.size, np.uint64))
        return found

    def _ids(self, seen: Observation, hashed: Mapping[str, UIntArray]) -> UIntArray:
        """Return the ids; unique within an attempt also where contents may not be used."""
        identity = self._envelope.identity
        place = np.arange(seen.size, dtype=np.uint64)
        if self._is_private:
            # The first message of a call has this number, and no other call uses it.
            fixed = (identity.attempt, identity.coordinates.rank, self._seq.get(seen.stream, 0))
            return self._hasher.rows("place", [*_constant(fixed, seen.size), place])
        words = [hashed[name] for name in seen.kind.contents]
        if not seen.kind.is_judgement:
            place += np.uint64(self._first_place(seen))
            words += [*_constant((seen.step, identity.coordinates.rank), seen.size), place]
        return self._hasher.rows(seen.kind.name, words)

    def _first_place(self, seen: Observation) -> int:
        """Return how many events of its step the stream had before: micro-batches may hold equal rows."""
        step, count = self._placed.get(seen.stream, (seen.step, 0))
        start = count if step == seen.step else 0
        self._placed[seen.stream] = (seen.step, start + seen.size)
        return start

    def _message(
        self,
        seen: Observation,
        ids: UIntArray,
        columns: Columns,
        part: npt.NDArray[np.intp],
        offered: int,
    ) -> Outgoing:
        identity, rule = self._envelope.identity, self._envelope.settings.sampling
        seq = self._seq.get(seen.stream, 0)
        self._seq[seen.stream] = seq + 1
        batch = pb.EventBatch(
            run=identity.run,
            attempt=identity.attempt,
            stream=seen.stream,
            rank=identity.coordinates.rank,
            seq=seq,
            step=seen.step,
            rule=pb.WindowRule(base_level=rule.base_level, width=rule.width),
            time_ms=seen.time_ms,
            offered=offered,
            table=pb.EventTable(
                kind=seen.kind.name,
                ids=to_tensor(ids[part]),
                columns=[pb.Column(name=n, values=to_tensor(v[part])) for n, v in columns.items()],
            ),
        )
        key = event_key(identity.run, seen.stream)
        return Outgoing(self._topic, key, encode(batch), seen.time_ms, len(part))


def _numbers(seen: Observation) -> dict[str, npt.NDArray[Any]]:
    numbers = {name: to_host(kept, torch.float64) for name, kept in seen.numbers.items()}
    features = {name: to_host(kept, torch.float32) for name, kept in seen.features.items()}
    return {**numbers, **features}


def _constant(values: tuple[int, ...], size: int) -> list[UIntArray]:
    return [np.full(size, value, dtype=np.uint64) for value in values]


def smallest(ids: UIntArray, count: int) -> npt.NDArray[np.intp]:
    """Return the places of the `count` smallest ids, ascending by place; all of them if there are no more."""
    if count >= len(ids):
        return np.arange(len(ids))
    return np.sort(np.argsort(ids, kind="stable")[: max(count, 0)])


def split(places: npt.NDArray[np.intp], rows: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield `places` in parts of at most `rows`, one empty part if there are none."""
    size = max(rows, 1)
    for start in range(0, max(len(places), 1), size):
        yield places[start : start + size]
