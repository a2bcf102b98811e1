"""Runs what needs a CUDA device, and writes a dated result page. Without one it says so and ends with code 3.

make gpu [ARGS='-k parity']
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

NO_DEVICE = 3
ROOT = Path(__file__).parents[1]


def main() -> int:
    """Return the exit code."""
    if not torch.cuda.is_available():
        print("make gpu: no CUDA device here, nothing was checked", file=sys.stderr)
        return NO_DEVICE
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Warnings of whatever versions the machine has are no findings about the device.
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests/gpu",
            "-W",
            "default",
            f"--junit-xml={report}",
        ]
        own = os.environ | {"INFOPLANE_REQUIRE": "cuda"}
        code = subprocess.run([*command, *sys.argv[1:]], cwd=ROOT, env=own, check=False).returncode
        if report.exists():
            write_page(report)
    return code


def write_page(report: Path) -> None:
    """Write benchmarks/gpu/results-DATE.md from pytest's report."""
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    lines = [
        f"# GPU lane, {today}\n",
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}\n",
        "| test | result | seconds |\n|---|---|---|",
    ]
    for case in ElementTree.parse(report).iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        result = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
        lines.append(f"| {case.get('name')} | {result} | {case.get('time')} |")
    page = ROOT / "benchmarks" / "gpu" / f"results-{today}.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join(lines) + "\n")
    print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
