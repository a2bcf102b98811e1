"""The command as a program: help, usage errors, unreachable brokers."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import pytest

COMMANDS = {
    "demo",
    "local",
    "collector",
    "exporter",
    "controller",
    "estimate",
    "replay",
    "run",
    "doctor",
    "metrics",
    "topics",
    "config",
    "dashboards",
    "interventions",
}


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_help_names_every_command(invoke: Any) -> None:
    from infoplane.cli.main import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.typer_instance.info.name for group in app.registered_groups}
    assert names == COMMANDS
    assert invoke("--help").code == 0


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(invoke: Any, command: str) -> None:
    out = invoke(command, "--help")
    assert out.code == 0
    assert out.stderr == ""


def test_a_usage_error_is_two_and_goes_to_stderr() -> None:
    command = [sys.executable, "-m", "infoplane.cli.main", "demo", "--fautl", "lr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--fautl" in done.stderr


def test_version(invoke: Any) -> None:
    from importlib.metadata import version

    assert invoke("--version").stdout.strip() == version("infoplane")


def test_an_unreachable_broker_is_four(invoke: Any, closed_port: int) -> None:
    for command in (("topics", "list"), ("topics", "create", "--dry-run")):
        out = invoke(*command, "--bootstrap", f"127.0.0.1:{closed_port}")
        assert out.code == 4
        assert str(closed_port) in out.stderr


def test_a_broker_address_without_a_port_is_a_wrong_setting(invoke: Any) -> None:
    out = invoke("topics", "list", "--bootstrap", "localhost")
    assert out.code == 3
    assert "kafka.bootstrap_servers = 'localhost': expected host:port" in out.stderr


def test_doctor_fails_without_a_broker_and_says_so(invoke: Any, closed_port: int) -> None:
    out = invoke("doctor", "--bootstrap", f"127.0.0.1:{closed_port}", "--json")
    assert out.code == 5
    found = {one["name"]: one for one in out.json()}
    assert found["broker"]["passed"] is False
    assert found["numpy"]["passed"] is True


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("--fault", "gremlin"), "--fault = 'gremlin'"),
        (("--steps", "8"), "--steps = 8"),
        (("--duration", "0"), "--duration = 0.0"),
    ],
)
def test_the_demo_refuses_before_it_starts_anything(
    invoke: Any, arguments: tuple[str, ...], key: str
) -> None:
    out = invoke("demo", *arguments)
    assert out.code == 3
    assert key in out.stderr
