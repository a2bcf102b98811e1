"""Rows of two strata: uniform ones, and ones that were chosen for their novelty.

Where an agent chooses rows by novelty, its records say for every row with which probability it was chosen. Two columns
go with the rows through every merge:

    #inclusion  float32  what the record said
    #uniform    uint8    1: one of the k - c smallest keys of its record, which are a uniform sample of all rows

A window that has more rows than it keeps must not prefer one stratum to the other. Keys would: certain rows were chosen
out of four times as many candidates, so theirs are greater. A second hash of the key knows neither stratum nor content,
and cuts all rows at one rate. So the uniform ones stay uniform, and inclusion probabilities stay right up to a factor
that all rows of the window share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

INCLUSION: Final = "#inclusion"
UNIFORM: Final = "#uniform"
MAX_REFERENCES: Final = 64
_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def of_record(body: pb.Sketch | pb.Tokens, k: int) -> dict[str, NDArray[Any]]:
    """Return the two columns (k,) of a record's rows, none if it chooses no rows by novelty.

    Raises:
        DecodeError: shapes, types or probabilities are impossible.
    """
    if not body.HasField("inclusion"):
        return {}
    num_uniform = max(body.sampling.rows_per_step - body.sampling.novel_rows, 0)
    return _columns(body.inclusion, (np.arange(k) < num_uniform).astype(np.uint8), k)


def of_pane(pane: pb.WindowPane, m: int) -> dict[str, NDArray[Any]]:
    """Return the two columns (m,) of a pane's rows, none if it has none. Raises DecodeError."""
    if not pane.HasField("row_inclusion"):
        return {}
    return _columns(pane.row_inclusion, from_tensor(pane.row_uniform, shape=(m,)), m)


def write(pane: pb.WindowPane, columns: Mapping[str, NDArray[Any]]) -> None:
    """Put the two columns into `pane`, if there are any."""
    if INCLUSION in columns:
        pane.row_inclusion.CopyFrom(to_tensor(columns[INCLUSION]))
        pane.row_uniform.CopyFrom(to_tensor(columns[UNIFORM]))


def second_hash(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return another 64-bit hash of every key, same shape: splitmix64, a bijection."""
    z = keys + _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def _columns(inclusion: pb.Tensor, uniform: NDArray[Any], k: int) -> dict[str, NDArray[Any]]:
    found = from_tensor(inclusion, shape=(k,))
    if found.dtype != np.float32 or uniform.dtype != np.uint8:
        raise DecodeError("content", f"inclusion of {found.dtype}, strata of {uniform.dtype}")
    if not np.all((found > 0) & (found <= 1)):
        raise DecodeError("content", "inclusion probabilities outside 0..1")
    return {INCLUSION: found, UNIFORM: uniform}
