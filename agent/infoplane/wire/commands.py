"""Signed commands: Ed25519 over the serialised command, checked before anything of it is believed.

Signing is deterministic, so a controller that repeats itself after a restart sends the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import ConfigurationError, DecodeError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

REFUSALS: Final = (
    "malformed",  # no command inside, or fields that contradict themselves
    "unsigned",
    "key",  # signed by a key that this run does not know
    "signature",
    "run",  # meant for another run
    "attempt",  # meant for another attempt
    "expired",
    "replayed",  # this id or nonce was seen before
    "action",  # unknown, or not allowed here
    "bounds",
    "precondition",
    "unsupported",  # this run has no means to do it
)
MAX_COMMAND_BYTES: Final = 900  # travels in one broadcast buffer
NONCE_BYTES: Final = 16
Sign = Callable[[pb.Command], pb.SignedCommand]


class CommandError(DecodeError):
    """A command is refused; `reason` is one of REFUSALS."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Public keys that may command a run, by id."""

    keys: dict[str, Any]

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> KeyRing:
        """Read PEM files of Ed25519 public keys.

        Raises:
            ConfigurationError: a file cannot be read or holds something else.
        """
        keys = [_read_public(path) for path in paths]
        return cls({key_id(key): key for key in keys})

    def open(self, signed: pb.SignedCommand) -> pb.Command:
        """Return the command inside `signed`.

        Raises:
            CommandError: unsigned, unknown key, wrong signature or malformed.
        """
        from cryptography.exceptions import InvalidSignature

        if not signed.signature:
            raise CommandError("unsigned")
        key = self.keys.get(signed.key_id)
        if key is None:
            raise CommandError("key", signed.key_id[:32])
        try:
            key.verify(signed.signature, signed.command)
        except InvalidSignature:
            raise CommandError("signature") from None
        return read_command(signed.command)


def read_command(data: bytes) -> pb.Command:
    """Parse the bytes that were signed; raises CommandError."""
    from google.protobuf.message import DecodeError as ProtobufDecodeError

    if len(data) > MAX_COMMAND_BYTES:
        raise CommandError("malformed", f"{len(data)} bytes")
    try:
        command = pb.Command.FromString(data)
    except (ProtobufDecodeError, UnicodeDecodeError) as error:
        raise CommandError("malformed", str(error)) from None
    if not (command.run and command.id) or len(command.nonce) != NONCE_BYTES:
        raise CommandError("malformed", "run, id or nonce is missing")
    return command


def signer(path: Path) -> Sign:
    """Return a function that signs commands with the private key in the PEM file `path`.

    Raises:
        ConfigurationError: the file cannot be read, or holds no Ed25519 private key.
    """
    key = _read_private(path)
    name = key_id(key.public_key())

    def sign(command: pb.Command) -> pb.SignedCommand:
        data = command.SerializeToString(deterministic=True)
        return pb.SignedCommand(command=data, signature=key.sign(data), key_id=name)

    return sign


def key_id(public_key: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of the raw public key."""
    raw: bytes = public_key.public_bytes_raw()
    return hashlib.sha256(raw).hexdigest()[:16]


def nonce_of(command_id: str) -> bytes:
    """Return the nonce of a command: a function of its id, so that a repetition is seen as one."""
    return hashlib.blake2b(command_id.encode(), digest_size=NONCE_BYTES).digest()


def create_keys(directory: Path) -> tuple[Path, Path]:
    """Write a new key pair, `control.key` (mode 0600) and `control.pub`, and return their paths.

    Raises:
        ConfigurationError: one of the files exists.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, public = directory / "control.key", directory / "control.pub"
    for path in (private, public):
        if path.exists():
            raise ConfigurationError("--out", str(path), "a file that does not exist yet")
    directory.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _read_public(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "control.public_keys", str(path), f"a PEM public key ({error})"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("control.public_keys", str(path), "an Ed25519 public key")
    return key


def _read_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        # The error of the library may quote the file; a key must not reach a log.
        raise ConfigurationError(
            "policy.private_key_file", str(path), "a PEM file of an Ed25519 private key"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError("policy.private_key_file", str(path), "an Ed25519 private key")
    return key
