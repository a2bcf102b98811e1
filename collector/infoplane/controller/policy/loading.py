"""Reads a policy from a YAML file; every mistake becomes one error that names key, value and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from infoplane.collector.settings import PolicySection
from infoplane.controller.policy.engine import PolicyEngine
from infoplane.controller.policy.rules import ENFORCE, Policy
from infoplane.wire import ConfigurationError
from infoplane.wire.commands import signer

MAX_BYTES: Final = 1 << 20
# What pydantic says before the part that we want.
_PREFIXES: Final = ("Value error, ", "Input should be ")


def load_policy(path: Path) -> Policy:
    """Return the policy in the YAML file `path`.

    Raises:
        ConfigurationError: names the file and the key in it, the value and what was expected.
    """
    document = _read(path)
    if not isinstance(document, dict):
        raise ConfigurationError(str(path), type(document).__name__, "a mapping with version: 1")
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        value = "nothing" if first["type"] == "missing" else first.get("input")
        raise ConfigurationError(f"{path}: {key}", value, _expected(first)) from None


def engine_maker(
    section: PolicySection, *, dry_run: bool = False
) -> Callable[[], PolicyEngine] | None:
    """Return what makes the engine of one run, None without a policy.

    Args:
        section: the settings.
        dry_run: propose only, whatever the policy says; no key is read then.

    Raises:
        ConfigurationError: the policy is wrong, or it enforces and there is no usable key.
    """
    if not section.file:
        return None
    policy = load_policy(Path(section.file))
    if dry_run:
        policy = policy.as_dry_run()
    key = section.private_key_file
    sign = signer(Path(key)) if key and policy.mode == ENFORCE else None
    maker = partial(PolicyEngine, policy, sign)
    maker()  # says now what is missing
    return maker


def _expected(error: Any) -> str:
    if error["type"] == "missing":
        return "a value: the key is required"
    if error["type"] == "extra_forbidden":
        return "no such key"
    message: str = error["msg"]
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return message


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            "policy.file", str(path), f"a readable YAML file ({error.strerror})"
        ) from None
    if len(text) > MAX_BYTES:
        raise ConfigurationError("policy.file", str(path), f"at most {MAX_BYTES} bytes")
    try:
        # A subclass of the safe loader.
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise ConfigurationError("policy.file", str(path), f"valid YAML ({told})") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice: the last one would win, and that may be `mode: enforce`."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {min(twice)} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
