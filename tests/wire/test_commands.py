"""Signed commands: what is signed is what is read, and everything else is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS, LEARNING_RATE_FACTOR, SAMPLING_LEVEL
from infoplane.wire.commands import (
    CommandError,
    KeyRing,
    Sign,
    create_keys,
    nonce_of,
    signer,
)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Sign, KeyRing]:
    private, public = create_keys(tmp_path / "a")
    return signer(private), KeyRing.of_files([public])


def a_command(**changes: object) -> pb.Command:
    command = pb.Command(
        run="r",
        attempt=7,
        id="r/7/cut/3",
        nonce=nonce_of("r/7/cut/3"),
        action="learning_rate_factor",
        value=0.5,
    )
    for name, value in changes.items():
        setattr(command, name, value)
    return command


def reason_of(ring: KeyRing, signed: pb.SignedCommand) -> str:
    with pytest.raises(CommandError) as refused:
        ring.open(signed)
    return refused.value.reason


def test_what_was_signed_is_what_is_read(keys: tuple[Sign, KeyRing]) -> None:
    sign, ring = keys
    assert ring.open(sign(a_command())) == a_command()


def test_signing_twice_gives_the_same_bytes(keys: tuple[Sign, KeyRing]) -> None:
    sign, _ = keys
    assert sign(a_command()) == sign(a_command())


def test_every_defect_has_its_reason(keys: tuple[Sign, KeyRing], tmp_path: Path) -> None:
    sign, ring = keys
    good = sign(a_command())
    foreign = signer(create_keys(tmp_path / "b")[0])(a_command())
    tampered = pb.SignedCommand.FromString(good.SerializeToString())
    tampered.command = a_command(value=5.0).SerializeToString()
    bare = pb.SignedCommand(command=good.command, key_id=good.key_id)
    assert reason_of(ring, bare) == "unsigned"
    assert reason_of(ring, foreign) == "key"
    assert reason_of(ring, tampered) == "signature"
    assert reason_of(ring, sign(a_command(run=""))) == "malformed"
    assert reason_of(ring, sign(a_command(nonce=b"short"))) == "malformed"
    assert reason_of(ring, sign(a_command(reason="x" * 2000))) == "malformed"


def test_a_flipped_bit_anywhere_is_refused(keys: tuple[Sign, KeyRing]) -> None:
    sign, ring = keys
    good = sign(a_command())
    for place in range(len(good.command)):
        broken = pb.SignedCommand.FromString(good.SerializeToString())
        data = bytearray(good.command)
        data[place] ^= 1
        broken.command = bytes(data)
        assert reason_of(ring, broken) == "signature"


def test_the_private_key_is_nobody_elses_to_read(tmp_path: Path) -> None:
    private, _ = create_keys(tmp_path)
    assert private.stat().st_mode & 0o777 == 0o600


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    create_keys(tmp_path)
    with pytest.raises(ConfigurationError, match="does not exist yet"):
        create_keys(tmp_path)


def test_a_wrong_key_file_names_the_file_and_shows_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "control.key"
    path.write_text("hunter2")
    with pytest.raises(ConfigurationError) as error:
        signer(path)
    assert str(path) in str(error.value)
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigurationError, match=r"control\.public_keys"):
        KeyRing.of_files([path])


def test_bounds_of_actions() -> None:
    assert set(ACTIONS) == {"learning_rate_factor", "checkpoint", "sampling_level", "stop"}
    assert LEARNING_RATE_FACTOR.allows(0.1)
    assert not LEARNING_RATE_FACTOR.allows(float("nan"))
    assert not LEARNING_RATE_FACTOR.allows(-0.1)
    assert SAMPLING_LEVEL.allows(3)
    assert not SAMPLING_LEVEL.allows(3.5)
