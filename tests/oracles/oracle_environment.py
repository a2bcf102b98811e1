"""Reference packages run in environments of their own, and hand over arrays: nothing of theirs enters ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / ".oracles"
IS_REQUIRED = "oracles" in os.environ.get("INFOPLANE_REQUIRE", "").split(",")
Arrays = dict[str, NDArray[Any]]


def run_oracle(name: str, requirements: Sequence[str], arrays: Mapping[str, Any]) -> Arrays:
    """Run `tests/oracles/<name>.py IN.npz OUT.npz` beside `requirements`, and return the arrays it wrote.

    The environment is made on first use, where INFOPLANE_REQUIRE names `oracles`; a missing one skips, and so does
    one that cannot be installed.
    """
    python = _python(name, requirements)
    with TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **{key: np.asarray(value) for key, value in arrays.items()})
        own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        own |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [str(python), str(FOLDER / f"{name}.py"), str(given), str(found)]
        done = subprocess.run(
            command, cwd=folder, env=own, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(found) as file:
            return {key: file[key] for key in file.files}


def _python(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment with exactly these requirements."""
    stamp = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    home = ENVIRONMENTS / f"{name}-{stamp}"
    python = home / "bin" / "python"
    if (home / ".complete").exists():
        return python
    if not IS_REQUIRED:
        pytest.skip(
            f"oracle {name} is not installed; INFOPLANE_REQUIRE=oracles installs it",
            allow_module_level=True,
        )
    uv = Path(sys.executable).parent / "uv"
    shutil.rmtree(home, ignore_errors=True)
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, home],
        [uv, "pip", "install", "--quiet", "--python", python, *requirements],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"oracle {name} cannot be installed here: {done.stderr[-500:]}")
    (home / ".complete").touch()
    return python
