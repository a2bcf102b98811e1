"""Every configuration key of agent and services: name in the environment, default and meaning."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from infoplane.collector.settings import PREFIX, Settings, YamlSource

# Read by the command itself or by the libraries' start, before there are settings.
_OTHERS: Final = {
    "INFOPLANE_CONFIG": "YAML file with the settings of collector, controller and exporter",
    "INFOPLANE_LOG_LEVEL": "log level of collector, controller and exporter",
    "INFOPLANE_DEBUG": "1: the command prints tracebacks",
    "INFOPLANE_REQUIRE": "test suite: what must be there, comma separated; tests skip otherwise",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One configuration key.

    Attributes:
        name: dotted, as in files.
        environment: its variable.
        default: when nobody sets it.
        help: what it means.
        readers: `agent`, `services` or both.
    """

    name: str
    environment: str
    default: Any
    help: str
    readers: tuple[str, ...]


def service_keys() -> Iterator[Key]:
    """Yield the keys of collector, controller and exporter, in the order of the model."""
    for name, default, text in _fields(Settings, ""):
        yield Key(name, PREFIX + name.upper().replace(".", "__"), default, text, ("services",))


def agent_keys() -> Iterator[Key]:
    """Yield the keys of the agent, in its order."""
    from infoplane.agent.settings import describe

    for name, environment, default, text in describe():
        yield Key(name, environment, default, text, ("agent",))


def all_keys() -> list[Key]:
    """Return every key once; those that both read name both readers."""
    keys = {key.name: key for key in agent_keys()}
    for key in service_keys():
        known = keys.get(key.name)
        readers = (*known.readers, *key.readers) if known else key.readers
        base = known or key
        keys[key.name] = Key(base.name, base.environment, base.default, base.help, readers)
    return list(keys.values())


def markdown_table() -> str:
    """Return the table of docs/architecture.md."""
    lines = ["| key | environment | default | read by | meaning |", "|---|---|---|---|---|"]
    for key in all_keys():
        cells = (
            f"`{key.name}`",
            f"`{key.environment}`",
            f"`{_shown(key.default)}`",
            ", ".join(key.readers),
            key.help.replace("|", "\\|"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    for environment, text in _OTHERS.items():
        lines.append(f"| | `{environment}` | | command | {text} |")
    return "\n".join(lines)


def origin(key: Key, document: Mapping[str, Any]) -> str:
    """Return where the value of `key` comes from: environment, file or default."""
    if any(name.upper() == key.environment for name in os.environ):
        return "environment"
    value: Any = document
    for part in key.name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return "default"
        value = value[part]
    return "file"


def read_document() -> dict[str, Any]:
    """Return the YAML file that `INFOPLANE_CONFIG` names; empty without one. It was checked before."""
    path = os.environ.get(f"{PREFIX}CONFIG")
    if not path:
        return {}
    return YamlSource(Settings, path).yaml_data


def unknown_variables() -> list[str]:
    """Return the variables of the environment that begin like ours and mean nothing: typing errors."""
    known = {key.environment for key in all_keys()} | set(_OTHERS)
    sections = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    return sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and name not in known and name not in sections
    )


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                field.get_default(call_default_factory=True),
                (field.description or ""),
            )


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list | dict) and not value:
        return "empty"
    return str(value).replace("|", "\\|")
