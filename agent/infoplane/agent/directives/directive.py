"""A directive: parsed and checked before the training thread sees it. Numpy and protobuf, never torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infoplane.wire import DecodeError, decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb

MAX_REFERENCE_ROWS: Final = 4096
MAX_TAPS_OFF: Final = 1024
MAX_BYTES: Final = 2 << 20
REFUSALS: Final = {
    "malformed": "not a frame of the schema, or its content contradicts itself",
    "oversize": "more bytes, reference rows or taps than an agent takes",
    "version": "no version",
    "identity": "the reference was projected in another way than this run projects",
    "scoring_tap": "the reference is of another tap than the one that this run scores, or that tap is off",
    "shape": "the reference is not (m, r) float16 with at least one row",
    "nonfinite": "the reference holds a NaN or an infinity",
}


class RefusedDirectiveError(Exception):
    """A directive that is not obeyed; `reason` is one of `REFUSALS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The rows that novelty is measured against.

    Attributes:
        version: of the directive that brought them.
        width: d of the scoring tap.
        rows: float32 (m, r), finite.
    """

    version: int
    width: int
    rows: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Directive:
    """What to do from the first window on that begins at `from_step` or later."""

    version: int
    from_step: int
    reference: Reference | None
    taps_off: frozenset[str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a directive for this run must fit.

    Attributes:
        sampling: of this run: projection version, seed and dimension count.
        scoring_tap: the tap that novelty is measured at; empty: none, so references are of no use here.
    """

    sampling: pb.Sampling
    scoring_tap: str


def read_directive(raw: bytes, expected: Expected) -> Directive:
    """Return the directive in one framed AgentConfig.

    Raises:
        RefusedDirectiveError: it is none, or does not fit this run.
    """
    if len(raw) > MAX_BYTES:
        raise RefusedDirectiveError("oversize", f"{len(raw)} bytes, at most {MAX_BYTES}")
    try:
        message = decode(raw, pb.AgentConfig)
        return _checked(message, expected)
    except DecodeError as error:
        raise RefusedDirectiveError("malformed", str(error)) from None


def _checked(message: pb.AgentConfig, expected: Expected) -> Directive:
    if not message.version:
        raise RefusedDirectiveError("version", "versions begin at 1")
    off = frozenset(message.taps_off)
    if len(message.taps_off) > MAX_TAPS_OFF:
        raise RefusedDirectiveError("oversize", f"{len(message.taps_off)} taps off")
    reference = None
    # Where nothing is scored (the stratum is off), the rest of the directive holds all the same.
    if message.HasField("reference") and expected.scoring_tap:
        if message.reference.scoring_tap in off:
            raise RefusedDirectiveError("scoring_tap", f"{message.reference.scoring_tap} is off")
        reference = _reference(message, expected)
    return Directive(message.version, message.from_step, reference, off)


def _reference(message: pb.AgentConfig, expected: Expected) -> Reference:
    found = message.reference
    mine, theirs = _identity(expected.sampling), _identity(found.sampling)
    if mine != theirs:
        raise RefusedDirectiveError(
            "identity", f"projection (version, seed, dimension) {theirs}, here {mine}"
        )
    if found.scoring_tap != expected.scoring_tap:
        raise RefusedDirectiveError(
            "scoring_tap", f"{found.scoring_tap!r}, here {expected.scoring_tap!r}"
        )
    if len(found.rows.shape) == 2 and found.rows.shape[0] > MAX_REFERENCE_ROWS:
        raise RefusedDirectiveError(
            "oversize", f"{found.rows.shape[0]} rows, at most {MAX_REFERENCE_ROWS}"
        )
    rows: npt.NDArray[Any] = from_tensor(found.rows)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != mine[2] or rows.dtype != np.float16:
        raise RefusedDirectiveError("shape", f"{rows.dtype} {rows.shape}")
    if not np.isfinite(rows).all():
        raise RefusedDirectiveError("nonfinite", "a NaN or an infinity among the rows")
    return Reference(message.version, found.width, rows.astype(np.float32))


def _identity(sampling: pb.Sampling) -> tuple[int, int, int]:
    return sampling.projection_version, sampling.projection_seed, sampling.projection_dim
