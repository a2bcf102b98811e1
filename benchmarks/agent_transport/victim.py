"""The training process of broker_failures.py: offers parcels at a steady pace, measures the cost.

Talks to its parent in lines: it prints `AT <step>` on the way, `END` when all is offered, then
waits for a line, closes, and prints its measurements as JSON.

Usage: victim.py BOOTSTRAP STEPS RATE QUEUE_BYTES INFLIGHT_BYTES NICE
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import resource
import sys
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The package infoplane.agent imports torch: seconds to start, and 200 MB that would drown what is
# measured. Only its publishing half runs here, so the package is entered without its __init__.
_spec = importlib.machinery.PathFinder.find_spec("infoplane", None)
assert _spec is not None
assert _spec.submodule_search_locations is not None
_package = types.ModuleType("infoplane.agent")
_package.__path__ = [f"{folder}/agent" for folder in _spec.submodule_search_locations]
sys.modules["infoplane.agent"] = _package

from infoplane.agent.counters import Counters  # noqa: E402
from infoplane.agent.publisher import Publisher  # noqa: E402
from infoplane.agent.transports import KafkaTransport, Outgoing  # noqa: E402
from infoplane.wire import encode, to_tensor  # noqa: E402
from infoplane.wire import infoplane_pb2 as pb  # noqa: E402
from infoplane.wire.topics import RECORDS, Names, record_key  # noqa: E402

ROWS = np.random.default_rng(0).standard_normal((64, 25_000)).astype(np.float16)
TOPIC = Names().of(RECORDS)
released = 0


@dataclass
class Parcel:
    """50 kB of incompressible rows for one of four units."""

    step: int
    nbytes: int = 50_000

    def encode(self) -> Sequence[Outgoing]:
        """Frame one record."""
        unit = f"layers/{self.step % 4:02d}"
        tap = pb.TapSketch(tap="00/block", rows=pb.Rows(scaled=to_tensor(ROWS[self.step % 64])))
        record = pb.Record(run="victim", unit=unit, step=self.step, sketch=pb.Sketch(taps=[tap]))
        return [Outgoing(TOPIC, record_key("victim", unit), encode(record), now_ms())]

    def release(self) -> None:
        """Count."""
        global released
        released += 1


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def heartbeat() -> Sequence[Outgoing]:
    record = pb.Record(run="victim", unit="agent", heartbeat=pb.Heartbeat())
    return [Outgoing(TOPIC, record_key("victim", "agent"), encode(record), now_ms())]


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    bootstrap, steps, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    queue_bytes, inflight_bytes = int(sys.argv[4]), int(sys.argv[5])
    if int(sys.argv[6]):
        os.setpriority(os.PRIO_PROCESS, 0, int(sys.argv[6]))  # threads inherit it
    counters = Counters()
    publisher = Publisher(
        lambda c: KafkaTransport(bootstrap, c, inflight_bytes=inflight_bytes),
        counters,
        beat=heartbeat,
        farewell=heartbeat,
        heartbeat_s=0.5,
        queue_bytes=queue_bytes,
    )
    publisher.start()
    wall, cpu, accepted, start_rss = [], [], 0, rss_bytes()
    peak_rss, next_step = start_rss, time.perf_counter()
    matrix = np.random.default_rng(1).standard_normal((128, 128))
    for step in range(steps):
        np.tanh(matrix @ matrix / 128)  # the training
        parcel = Parcel(step)
        w0, c0 = time.perf_counter(), time.thread_time()
        accepted += publisher.offer(parcel)
        cpu.append(time.thread_time() - c0)
        wall.append(time.perf_counter() - w0)
        if step % 10 == 0:
            say(f"AT {step}")
            peak_rss = max(peak_rss, rss_bytes())
        next_step += 1 / rate
        time.sleep(max(0.0, next_step - time.perf_counter()))
    descriptors = len(os.listdir("/proc/self/fd"))
    say("END")
    sys.stdin.readline()
    before = time.perf_counter()
    publisher.close()
    close_seconds = time.perf_counter() - before
    report = {
        "accepted": accepted,
        "released": released,
        "close_seconds": close_seconds,
        "wall_ms_p50": 1e3 * float(np.percentile(wall, 50)),
        "wall_ms_p999": 1e3 * float(np.percentile(wall, 99.9)),
        "wall_ms_max": 1e3 * max(wall),
        "cpu_ms_max": 1e3 * max(cpu),
        "rss_growth": max(peak_rss, rss_bytes()) - start_rss,
        "descriptors": descriptors,
        "counters": {f"{name}/{reason}": n for (name, reason), n in counters.snapshot().items()},
    }
    say(json.dumps(report))


if __name__ == "__main__":
    main()
