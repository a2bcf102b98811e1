"""Topics, keys and headers: what travels where, and which partition it meets its peers in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from infoplane.wire.errors import ConfigurationError
from infoplane.wire.frame import CONTENT_TYPE, VERSION

DEFAULT_PREFIX: Final = "infoplane."
HEADERS: Final[list[tuple[str, bytes]]] = [
    ("content-type", CONTENT_TYPE.encode()),
    ("schema-version", str(VERSION).encode()),
]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,64}")


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its short name, how it is kept and how many partitions it gets by default."""

    name: str
    compacted: bool
    partitions: int
    retention_hours: int
    purpose: str


RECORDS: Final = Topic("records", False, 8, 6, "what one rank says about one unit at one step")
EVENTS: Final = Topic("events", False, 4, 24, "reward events: preferences, rollouts, scores")
WINDOWS: Final = Topic("windows", False, 4, 168, "merged sketches of one window, replayable")
RESULTS: Final = Topic("results", False, 4, 168, "every estimate of every window")
LATEST: Final = Topic("latest", True, 4, 168, "newest estimate per series")
VERDICTS: Final = Topic("verdicts", False, 1, 720, "what the detectors concluded")
STATE: Final = Topic("state", True, 4, 168, "state that outlives a window, by stage")
DEAD: Final = Topic("dead", False, 1, 72, "what could not be read, with the reason")
# One partition each: commands and their fate are few, and their order over all runs is part of the story.
CONTROL: Final = Topic("control", False, 1, 24, "signed commands to training jobs")
AUDIT: Final = Topic("audit", False, 1, 2160, "what was proposed, sent, refused and applied")
CONFIG: Final = Topic("config", True, 1, 168, "references and choice of taps, read by agents")

TOPICS: Final = (
    RECORDS,
    EVENTS,
    WINDOWS,
    RESULTS,
    LATEST,
    VERDICTS,
    STATE,
    DEAD,
    CONTROL,
    AUDIT,
    CONFIG,
)


@dataclass(frozen=True, slots=True)
class Names:
    """Full topic names under one prefix (one prefix per tenant)."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        """Refuse a prefix that a broker would refuse."""
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigurationError(
                "kafka.topic_prefix", self.prefix, "at most 64 letters, digits, '.', '_' or '-'"
            )

    def of(self, topic: Topic) -> str:
        """Return the full name of `topic`."""
        return f"{self.prefix}{topic.name}"


def check_run_name(run: str) -> str:
    """Return `run` if it may be part of a key.

    Raises:
        ConfigurationError: it is empty, too long or holds other characters.
    """
    if not _NAME.fullmatch(run):
        raise ConfigurationError(
            "run",
            run,
            "1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit",
        )
    return run


def record_key(run: str, unit: str) -> bytes:
    """Key of `records`: all ranks of one unit share a partition."""
    return f"{run}|{unit}".encode()


def run_key(run: str) -> bytes:
    """Key of `windows`, `results`, `verdicts`, `control`, `audit` and `config`: all of one run share a partition."""
    return run.encode()


def event_key(run: str, stream: str) -> bytes:
    """Key of `events`: all ranks of one stream share a partition."""
    return f"{run}|{stream}".encode()


def series_key(run: str, metric: str, labels: tuple[tuple[str, str], ...]) -> bytes:
    """Key of `latest`: one per series; `labels` sorted by name."""
    return "|".join([run, metric, *(f"{name}={value}" for name, value in labels)]).encode()
