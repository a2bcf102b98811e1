"""The wire works on the oldest and the newest protobuf runtime that pyproject allows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from messages import GOLDEN

ROOT = Path(__file__).parents[2]
GOLDEN_FOLDER = Path(__file__).parent / "golden"

# Oldest: what pyproject names as its lower bound. Newest: what an installer takes today.
OLDEST = "3.20.2"
REQUIREMENTS = {"oldest": f"protobuf=={OLDEST}", "newest": "protobuf<8"}

PROGRAM = """
import sys, warnings
from pathlib import Path
import google.protobuf
from infoplane.wire import DecodeError, decode, encode, infoplane_pb2 as pb
from infoplane.wire.frame import HEADER
kinds = {"record": pb.Record, "pane": pb.WindowPane, "result": pb.Result, "verdict": pb.Verdict}
for name, kind in kinds.items():
    raw = Path(sys.argv[1], name + ".v1.bin").read_bytes()
    assert encode(decode(raw, kind)) == raw, name
    for cut in range(0, len(raw), 7):
        try:
            decode(raw[:cut], kind)
        except DecodeError:
            continue
        raise AssertionError(cut)
taps = b"\\x22\\x00" * 10_000
sketch = b"\\xa2\\x01" + bytes([len(taps) & 127 | 128, len(taps) >> 7 & 127 | 128, len(taps) >> 14]) + taps
import crc32c
bomb = HEADER.pack(b"IPLN", 1, 1, 0, len(sketch), crc32c.crc32c(sketch)) + sketch
try:
    decode(bomb, pb.Record)
except DecodeError as error:
    assert error.reason == "submessages", error
else:
    raise AssertionError("the bomb was parsed")
print(google.protobuf.__version__)
"""


@pytest.mark.integration
@pytest.mark.parametrize("end", sorted(REQUIREMENTS))
def test_golden_messages_pass_on_the_ends_of_the_protobuf_range(
    end: str, tmp_path: Path, require: Callable[[str, bool, str], None]
) -> None:
    target = tmp_path / "packages"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet"),
            *("--python", sys.executable, "--target", str(target)),
            *(REQUIREMENTS[end], "numpy", "crc32c"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    require("uv", done.returncode == 0, f"uv cannot install {REQUIREMENTS[end]}: {done.stderr}")
    environment = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT / 'agent'}"}
    # -S leaves out this environment's own packages.
    result = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, str(GOLDEN_FOLDER)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    version = result.stdout.strip()
    assert version.split(".")[0] == {"oldest": OLDEST, "newest": "7"}[end].split(".")[0]
    assert set(GOLDEN) == {path.name.split(".")[0] for path in GOLDEN_FOLDER.iterdir()}
