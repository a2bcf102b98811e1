"""Exit codes and the one line that an error becomes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from infoplane.cli.exits import CheckFailedError, ExitCode, run_within
from infoplane.wire.errors import (
    ConfigurationError,
    DecodeError,
    InfoplaneError,
    TransportError,
    UndefinedMetricError,
)


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("a.b", 1, "two"), 3),
        (UndefinedMetricError("metric 'x'"), 2),
        (TransportError("no broker"), 4),
        (CheckFailedError("failed: broker"), 5),
        (DecodeError("short"), 1),
        (InfoplaneError("other"), 1),
        (RuntimeError("a bug"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(7), 7),
        (SystemExit(None), 0),
    ],
)
def test_every_error_has_its_code(error: BaseException, code: int) -> None:
    assert run_within(raising(error)) == code


def test_success_is_zero() -> None:
    assert run_within(lambda: None) == ExitCode.OK


def test_an_error_is_one_line_that_names_key_value_and_expectation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_within(raising(ConfigurationError("watch.of", "many", "a whole number")))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "infoplane: watch.of = 'many': expected a whole number\n"


def test_a_bug_shows_its_place_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_within(raising(RuntimeError("a bug")))
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("INFOPLANE_DEBUG", "1")
    run_within(raising(RuntimeError("a bug")))
    assert "Traceback" in capsys.readouterr().err
