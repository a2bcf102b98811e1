"""One option of the settings: its help, its bounds, and how a text or value becomes one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from infoplane.wire import ConfigurationError

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def option(
    default: Any,
    help: str,  # noqa: A002 - the word that users of dataclass metadata expect
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: bool = False,
) -> Any:
    """Return a dataclass field that knows its one-line help and what it accepts."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "pattern": pattern}
    return dataclasses.field(default=default, metadata=metadata)


def section_of(field: Field[Any]) -> type[Any] | None:
    """Return the dataclass that `field` nests, or None when it is an option."""
    factory = field.default_factory
    return factory if isinstance(factory, type) else None


def parse(key: str, value: object, field: Field[Any]) -> Any:
    """Return `value` as the type of `field`; texts are read as in an environment.

    Raises:
        ConfigurationError: naming key, value and what was expected.
    """
    kind = str(field.type).replace(" ", "")
    if value is None and kind.endswith("|None"):
        return None
    if field.metadata["pattern"]:
        return _pattern(key, value)
    parsers = {"bool": _boolean, "int": _integer, "float": _number, "str": _text}
    return parsers[kind.removesuffix("|None")](key, value, field.metadata)


def _boolean(key: str, value: object, _: Mapping[str, Any]) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ConfigurationError(key, value, "on or off")


def _integer(key: str, value: object, bounds: Mapping[str, Any]) -> int:
    expected = f"a whole number{_range(bounds)}"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigurationError(key, value, expected)
    try:
        number = int(value)
    except ValueError:
        raise ConfigurationError(key, value, expected) from None
    return int(_bounded(key, number, bounds, expected))


def _number(key: str, value: object, bounds: Mapping[str, Any]) -> float:
    expected = f"a number{_range(bounds)}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigurationError(key, value, expected)
    try:
        number = float(value)
    except ValueError:
        raise ConfigurationError(key, value, expected) from None
    return _bounded(key, number, bounds, expected)


def _text(key: str, value: object, bounds: Mapping[str, Any]) -> str:
    choices: tuple[str, ...] = bounds["choices"]
    if not isinstance(value, str) or (choices and value not in choices):
        raise ConfigurationError(key, value, " | ".join(choices) or "a text")
    return value


def _pattern(key: str, value: object) -> str:
    """Return `on`, `off` or a regular expression; YAML and JSON hand over booleans for the first two."""
    word = str(value).strip()
    if isinstance(value, bool) or word.lower() in _TRUE | _FALSE:
        return "on" if word.lower() in _TRUE else "off"
    try:
        re.compile(word)
    except re.error as error:
        expected = f"on, off or a regular expression over module names ({error})"
        raise ConfigurationError(key, value, expected) from None
    return word


def _bounded(key: str, number: float, bounds: Mapping[str, Any], expected: str) -> float:
    low, high = bounds["low"], bounds["high"]
    # Written so that NaN fails too.
    if (low is not None and not number >= low) or (high is not None and not number <= high):
        raise ConfigurationError(key, number, expected)
    return number


def _range(bounds: Mapping[str, Any]) -> str:
    low, high = bounds["low"], bounds["high"]
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else ""
