"""The wrapper as a program: settings, environment, exit codes, signals, and other people's start-up code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infoplane.agent.run import launch
from infoplane.wire import ConfigurationError

MODULE = [sys.executable, "-m", "infoplane.agent.run"]
CLI = [sys.executable, "-m", "infoplane.cli.main", "run"]
FORMS = pytest.mark.parametrize("form", [MODULE, CLI], ids=["module", "cli"])


def call(*words: str, **own: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("INFOPLANE_", "PYTHON"))}
    return subprocess.run(words, env=kept | own, capture_output=True, text=True, timeout=60)


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


def test_flags_become_variables() -> None:
    pairs = ["sampling.base_level=2", "file.path=a=b", "run=x", "sampling.base_level=3"]
    assert launch.variables(pairs, run="y", bootstrap_servers="k:9092") == {
        "INFOPLANE_SAMPLING__BASE_LEVEL": "3",
        "INFOPLANE_FILE__PATH": "a=b",
        "INFOPLANE_RUN": "y",
        "INFOPLANE_KAFKA__BOOTSTRAP_SERVERS": "k:9092",
    }


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("colour=red", "colour = 'red': expected one of enabled, run"),
        ("sampling.base_level=99", "sampling.base_level = 99: expected a whole number from 0 to"),
        ("transport=pigeon", "transport = 'pigeon': expected kafka | file"),
        ("run", "--set = 'run': expected key=value"),
        ("=1", "--set = '=1': expected key=value"),
    ],
)
def test_wrong_settings_name_key_value_and_expectation(pair: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        launch.variables([pair])
    assert said in str(caught.value)


def test_our_folder_comes_first_and_once() -> None:
    ours = str(launch.AUTOLOAD)
    assert launch.python_path({}) == ours
    assert launch.python_path({"PYTHONPATH": f"a:{ours}::b"}) == f"{ours}:a:b"


@FORMS
def test_the_command_gets_the_variables_and_its_exit_code_passes(form: list[str]) -> None:
    code = (
        "import os, sys; print(os.environ['INFOPLANE_RUN'], os.environ['PYTHONPATH']); sys.exit(5)"
    )
    done = call(*form, "--run", "x", *python(code))
    assert (done.returncode, done.stderr) == (5, "")
    assert done.stdout == f"x {launch.AUTOLOAD}\n"


@FORMS
def test_flags_of_the_command_are_its_own(form: list[str]) -> None:
    code = "import sys; print(sys.argv[1:])"
    done = call(*form, "--run", "x", sys.executable, "-c", code, "--run", "y", "--dry-run", "--")
    assert done.stdout == "['--run', 'y', '--dry-run', '--']\n"


@FORMS
def test_a_death_by_signal_passes(form: list[str]) -> None:
    done = call(*form, *python("import os; os.kill(os.getpid(), 9)"))
    assert done.returncode == -signal.SIGKILL


def test_a_signal_to_the_wrapper_reaches_the_command() -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
        "print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([*CLI, *python(code)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(30) == 7


@FORMS
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "no command"),
        (["--set", "colour=red", "--", "true"], 2, "colour = 'red': expected one of"),
        (["--", "no-such-program"], 127, "no-such-program: command not found"),
        (["--", os.path.dirname(__file__)], 126, "Permission denied"),
    ],
)
def test_what_cannot_be_started_says_why(
    form: list[str], words: list[str], code: int, said: str
) -> None:
    done = call(*form, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


@FORMS
def test_a_dry_run_prints_lines_for_deepspeed_env(form: list[str]) -> None:
    done = call(*form, "--run", "x", "--set", "taps.act=off", "--dry-run", "--", "no-such-program")
    assert done.returncode == 0
    pairs = dict(line.split("=", maxsplit=1) for line in done.stdout.splitlines())
    assert pairs == {
        "INFOPLANE_TAPS__ACT": "off",
        "INFOPLANE_RUN": "x",
        "PYTHONPATH": str(launch.AUTOLOAD),
    }


def test_the_base_install_is_enough() -> None:
    absent = ("torch", "typer", "pydantic", "scipy", "deepspeed")
    code = f"import sys, infoplane.agent.run.__main__; print([n for n in {absent!r} if n in sys.modules])"
    assert call(sys.executable, "-c", code).stdout == "[]\n"


def test_a_process_without_a_framework_loads_next_to_nothing() -> None:
    code = (
        "import sys; print([n for n in ('torch', 'numpy', 'google.protobuf') if n in sys.modules])"
    )
    assert call(*MODULE, *python(code)).stdout == "[]\n"


def test_another_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.was_here = True\n")
    code = "import sys, sitecustomize; print(sys.was_here, sitecustomize.__file__)"
    done = call(*MODULE, *python(code), PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"True {tmp_path}/sitecustomize.py\n"


def test_an_interpreter_without_infoplane_goes_on(tmp_path: Path) -> None:
    """`-S` keeps site-packages out; then the start-up file runs as in a foreign interpreter."""
    start = launch.AUTOLOAD / "sitecustomize.py"
    code = f"import runpy; runpy.run_path({str(start)!r}); print('on')"
    done = call(sys.executable, "-S", "-c", code)
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_switched_off_is_off(tmp_path: Path) -> None:
    code = "import sys; print(any('infoplane' in type(f).__module__ for f in sys.meta_path))"
    done: Any = call(*MODULE, "--set", "enabled=off", *python(code))
    assert done.stdout == "False\n"
