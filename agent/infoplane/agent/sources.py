"""Where settings come from, and which source wins.

arguments in code > environment INFOPLANE_SECTION__KEY > "infoplane" section of the DeepSpeed
config > defaults
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from infoplane.agent.options import parse, section_of
from infoplane.agent.settings import ENVIRONMENT_PREFIX, Settings, environment_name, options
from infoplane.agent.tap_collections import parse_collections
from infoplane.wire import ConfigurationError
from infoplane.wire.topics import Names, check_run_name

# Sections and names that belong to the collector, or are shared with it: one environment serves both.
_FOREIGN: Final = frozenset(
    {
        "assemble",
        "estimate",
        "watch",
        "exporter",
        "require",
        "kafka",
        "config",
        "policy",
        "pipeline",
    }
)
_log = logging.getLogger("infoplane.agent")


class SourceError(ConfigurationError):
    """A setting from outside the code is wrong: logged at attach, and the monitor stays disabled."""


def load(
    arguments: Mapping[str, object],
    environment: Mapping[str, str],
    section: Mapping[str, object] | None = None,
) -> Settings:
    """Return the merged settings.

    Args:
        arguments: nested mapping or dotted keys, given in code.
        environment: usually os.environ; unknown INFOPLANE_ names are warned about once per call.
        section: the "infoplane" section of the DeepSpeed config, nested or dotted.

    Raises:
        ConfigurationError: `arguments` holds an unknown key or a wrong value.
        SourceError: one of the other sources does.
    """
    values = _parsed(flatten(arguments))
    try:
        outside = _parsed(flatten(section or {})) | _parsed(_from_environment(environment))
    except ConfigurationError as error:
        raise SourceError(error.key, error.value, error.expected) from error
    settings: Settings = _build(Settings, "", outside | values)
    return settings


def flatten(mapping: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return `mapping` with nested keys joined by dots."""
    flat: dict[str, object] = {}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{key}.")
        else:
            flat[key] = value
    return flat


def _parsed(flat: Mapping[str, object]) -> dict[str, Any]:
    known = dict(options())
    parsed: dict[str, Any] = {}
    for key, value in flat.items():
        if key not in known:
            raise ConfigurationError(key, value, f"one of {', '.join(known)}")
        parsed[key] = parse(key, value, known[key])
    _check_names(parsed)
    return parsed


def _check_names(parsed: Mapping[str, Any]) -> None:
    if parsed.get("run") is not None:
        check_run_name(parsed["run"])
    if "kafka.topic_prefix" in parsed:
        Names(parsed["kafka.topic_prefix"])
    parse_collections(parsed.get("taps.collections", ""))
    version = parsed.get("kafka.api_version", "auto")
    if version != "auto" and not re.fullmatch(r"\d+(\.\d+){1,2}", version):
        raise ConfigurationError("kafka.api_version", version, "major.minor, or auto")


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    names = {environment_name(key): key for key, _ in options()}
    found = {
        name: text for name, text in environment.items() if name.startswith(ENVIRONMENT_PREFIX)
    }
    unknown = sorted(name for name in found if name not in names and not _is_foreign(name))
    if unknown:
        _log.warning("infoplane: unknown settings in the environment: %s", ", ".join(unknown))
    return {names[name]: text for name, text in found.items() if name in names}


def _is_foreign(name: str) -> bool:
    return name.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower() in _FOREIGN


def _build(kind: type[Any], prefix: str, values: Mapping[str, Any]) -> Any:
    """Return `kind` with the values under `prefix`; what is not there keeps its default."""
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        nested = section_of(field)
        key = prefix + field.name
        if nested is not None:
            chosen[field.name] = _build(nested, f"{key}.", values)
        elif key in values:
            chosen[field.name] = values[key]
    return kind(**chosen)
