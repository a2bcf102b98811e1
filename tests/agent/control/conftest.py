"""Signed commands to a run, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import KeyRing, Sign, create_keys, nonce_of, signer

RUN, ATTEMPT = "test", 7


def a_command(name: str = "1", **changes: Any) -> pb.Command:
    """Return a command that passes every check, with `changes`."""
    now_ms = time.time_ns() // 1_000_000
    fields: dict[str, Any] = {
        "run": RUN,
        "attempt": ATTEMPT,
        "id": f"{RUN}/{ATTEMPT}/{name}",
        "nonce": nonce_of(name),
        "action": "learning_rate_factor",
        "value": 0.5,
        "low": 0.0,
        "high": 20.0,
        "issued_ms": now_ms,
        "expires_ms": now_ms + 60_000,
        "rule": "cut",
    }
    return pb.Command(**fields | changes)


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    create_keys(folder)
    return folder


@pytest.fixture(scope="session")
def sign(key_folder: Path) -> Sign:
    return signer(key_folder / "control.key")


@pytest.fixture(scope="session")
def keys(key_folder: Path) -> KeyRing:
    return KeyRing.of_files([key_folder / "control.pub"])


@pytest.fixture(scope="session")
def other_sign(tmp_path_factory: pytest.TempPathFactory) -> Sign:
    private, _ = create_keys(tmp_path_factory.mktemp("others"))
    return signer(private)


@pytest.fixture(scope="session")
def make_command() -> Callable[..., pb.Command]:
    return a_command
