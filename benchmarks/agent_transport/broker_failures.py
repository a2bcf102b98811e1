"""What a failing broker costs the training process.

    .venv/bin/python benchmarks/agent_transport/broker_failures.py [--steps 2000] [--rate 100] [--nice -20]

Each row is one process that offers `steps` parcels of 50 kB while the broker (Tansu) is dead,
stopped (SIGSTOP) or black-holed (accepts connections, never answers), before, during or after. It
exits with code 1 if a row breaks the acceptance: `offer` <= 5 ms of thread CPU; wall p99.9 within 5
ms of the control with a live broker; memory within the byte budgets of the control; exit code 0;
every record accounted for.
"""

from __future__ import annotations

import argparse
import sys

from scenarios import FAULTS, INFLIGHT_BYTES, QUEUE_BYTES, TIMES, Outcome, play

MIB = 1 << 20
COLUMNS = (
    "broker", "when", "exit", "exit s", "offer cpu max ms", "p50 us", "p99.9 ms", "max ms",
    "rss +MiB", "fds", "delivered", "dropped", "rebuilds", "thread cpu s", "io cpu s", "verdict",
)  # fmt: skip


def verdict(row: Outcome, control: Outcome) -> str:
    """Return "ok", or what `row` breaks."""
    if row.exit_code != 0:
        return f"exit code {row.exit_code}: {row.stderr[-300:]}"
    report, base = row.report, control.report
    budget = QUEUE_BYTES + INFLIGHT_BYTES
    broken = {
        "cpu": report["cpu_ms_max"] > 5.0,
        "wall": report["wall_ms_p999"] > base["wall_ms_p999"] + 5.0,
        "memory": report["rss_growth"] - base["rss_growth"] > budget,
        "release": report["released"] != row.steps,
        "unaccounted": row.count("records_delivered") + row.count("records_dropped") < row.steps,
        "no drops counted": row.when == "before" and row.count("records_dropped") == 0,
    }
    return ", ".join(name for name, is_broken in broken.items() if is_broken) or "ok"


def cells(row: Outcome, control: Outcome) -> list[str]:
    """Return `row` as text."""
    r = row.report
    if row.exit_code != 0:
        return [row.fault, row.when, str(row.exit_code), *[""] * 12, verdict(row, control)]
    return [
        row.fault,
        row.when,
        str(row.exit_code),
        f"{row.exit_seconds:.2f}",
        f"{r['cpu_ms_max']:.2f}",
        f"{1e3 * r['wall_ms_p50']:.0f}",
        f"{r['wall_ms_p999']:.2f}",
        f"{r['wall_ms_max']:.2f}",
        f"{(r['rss_growth'] - control.report['rss_growth']) / MIB:.1f}",
        str(r["descriptors"]),
        f"{row.count('records_delivered'):.0f}",
        f"{row.count('records_dropped'):.0f}",
        f"{row.count('producer_rebuilds'):.0f}",
        f"{row.count('publisher_cpu_seconds'):.2f}",
        f"{row.count('transport_cpu_seconds'):.2f}",
        verdict(row, control),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of the victims; -20 needs root"
    )
    options = vars(parser.parse_args())
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    control = play("none", "-", **options)
    plan = [(fault, when) for fault in FAULTS for when in TIMES]
    rows = [control]
    print("| " + " | ".join(cells(control, control)) + " |", flush=True)
    for fault, when in plan:
        rows.append(play(fault, when, **options))
        print("| " + " | ".join(cells(rows[-1], control)) + " |", flush=True)
    print(f"\ncontrol: rss +{control.report['rss_growth'] / MIB:.1f} MiB after start")
    return int(any(verdict(row, control) != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
