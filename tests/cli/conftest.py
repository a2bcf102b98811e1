"""Runs the command as a user does, but inside the test process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from infoplane.cli.exits import run_within
from infoplane.cli.main import app


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


Invoke = Callable[..., Outcome]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.setenv("INFOPLANE_CONFIG", "")

    def run(*arguments: object) -> Outcome:
        code = run_within(lambda: app([str(one) for one in arguments]))
        captured = capsys.readouterr()
        return Outcome(int(code), captured.out, captured.err)

    return run
