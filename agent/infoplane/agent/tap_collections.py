"""Collections: named groups of taps with a unit and a cadence of their own.

    detail=attn|mlp@8;slow=act@6

Every part is name=regex@level: the taps whose names the regex finds travel in units `<name>/00-07`, at every
2^level-th step at most. A tap belongs to the first collection that finds it, and to no other unit then. A site that is
off by its profile can be in a collection; one that is switched off cannot.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Final

from infoplane.agent.settings import ProbesSettings
from infoplane.wire import ConfigurationError

KEY: Final = "taps.collections"
MAX_LEVEL: Final = 20
EXPECTED: Final = "name=regex over tap names@level from 0 to 20, separated by semicolons"
RESERVED: Final = frozenset(
    {"layers", "shards", "tokens", "scalars", "agent", "events", "anchor"}
    | {field.name for field in dataclasses.fields(ProbesSettings)}
)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class TapCollection:
    """A named group of taps.

    Attributes:
        name: first part of the names of its units.
        pattern: searched for in names of taps.
        level: sampled every 2^level-th step at most.
    """

    name: str
    pattern: re.Pattern[str]
    level: int


def parse_collections(text: str) -> tuple[TapCollection, ...]:
    """Return the collections in `text`; none for an empty one.

    Raises:
        ConfigurationError: a part has another form, or a name is taken.
    """
    found = [_parse(text, part.strip()) for part in text.split(";") if part.strip()]
    names = [collection.name for collection in found]
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise ConfigurationError(KEY, text, f"names that are free: {name} is taken")
    return tuple(found)


def _parse(text: str, part: str) -> TapCollection:
    name, _, rest = part.partition("=")
    pattern, _, level = rest.rpartition("@")
    name, pattern, level = name.strip(), pattern.strip(), level.strip()
    is_level = level.isascii() and level.isdigit() and int(level) <= MAX_LEVEL
    if not (_NAME.fullmatch(name) and pattern and is_level):
        raise ConfigurationError(KEY, text, EXPECTED)
    try:
        return TapCollection(name, re.compile(pattern), int(level))
    except re.error as error:
        raise ConfigurationError(KEY, text, f"{EXPECTED} ({part}: {error})") from None
