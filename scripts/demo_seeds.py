"""Runs the demo on several seeds, with and without its fault, and judges what the detector said.

    scripts/demo_seeds.py [--fault lr|shard|collapse] [--steps N] SEED ...

With the fault a representation metric must carry the detection within 3 windows; without it there must be no
verdict. The thresholds were fixed on other seeds than the ones that `make demo-seeds` uses.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

WINDOW_STEPS = 8
MAX_WINDOWS = 3


def run_demo(arguments: list[str]) -> dict[str, Any]:
    """Return the report of one demo run; ends the script if the run fails."""
    command = [sys.executable, "-m", "infoplane.cli.main", "demo", "--json", "--port", "0"]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def judge(report: dict[str, Any]) -> str:
    """Return what is wrong with a run, empty if nothing is."""
    windows, fault = report["windows"], report["fault"]
    if report["records_dropped"]:
        return f"{report['records_dropped']} records dropped"
    if windows["complete"] < 0.95 * windows["final"]:
        return f"only {windows['complete']} of {windows['final']} windows complete"
    if fault is None:
        return f"{len(report['verdicts'])} false alarms" if report["verdicts"] else ""
    early = [v for v in report["verdicts"] if v["detected_step"] < fault["injected_step"]]
    if early:
        return f"{len(early)} false alarms before the fault"
    if fault["detected_step"] is None:
        return "not detected"
    if fault["detected_step"] >= fault["injected_step"] + MAX_WINDOWS * WINDOW_STEPS:
        return "detected too late"
    return ""


def main() -> None:
    """Run, print one line a run, and leave with 1 if any was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", default="lr")
    parser.add_argument("--steps", default="400")
    parser.add_argument("seeds", nargs="+", metavar="SEED")
    given = parser.parse_args()
    wrong = 0
    for kind in (["--fault", given.fault], ["--no-fault"]):
        for seed in given.seeds:
            report = run_demo([*kind, "--seed", seed, "--steps", given.steps])
            complaint = judge(report)
            wrong += bool(complaint)
            line = {"seed": seed, "fault": report["fault"], "verdicts": len(report["verdicts"])}
            print(json.dumps(line), complaint or "ok", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
