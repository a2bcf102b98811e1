"""What the arguments of a forward pass say about tokens: input ids, targets and their alignment."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

_NOT_IDS: Final = re.compile(
    r"mask|position|segment|token_type|cache|seq_?len|cu_|index", re.IGNORECASE
)
_IDS: Final = ("input_ids", "idx", "tokens", "ids", "x")
_INTEGERS: Final = (torch.int64, torch.int32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids of one micro-batch.

    Attributes:
        ids: (B, S) integer.
        targets: (B, S) integer; `ids` themselves when no labels were given.
        is_shifted: the target of position s is at s + 1 of `targets`.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    is_shifted: bool

    @property
    def length(self) -> int:
        """S, positions of a sequence."""
        return int(self.ids.shape[1])


def read_batch(
    root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], labels: str
) -> Batch | None:
    """Return the tokens among the arguments of `root`, or None when there are none.

    `labels` as a name means the convention of Hugging Face: the model shifts them itself. Any
    other second integer tensor of the same shape is taken as aligned. `labels` as an argument of
    this function overrides that.
    Cost: a look at each argument; no tensor operation.
    """
    candidates = dict(_integers(root, args, kwargs))
    name = next((name for name in _IDS if name in candidates), next(iter(candidates), None))
    if name is None:
        return None
    ids = candidates.pop(name)
    same = {key: value for key, value in candidates.items() if value.shape == ids.shape}
    if "shift_labels" in same:  # Hugging Face, where sequences are cut up over ranks
        return Batch(ids, same["shift_labels"], labels == "shifted")
    if "labels" in same:
        return Batch(ids, same["labels"], labels != "aligned")
    if same:
        return Batch(ids, next(iter(same.values())), labels == "shifted")
    return Batch(ids, ids, True)


def _integers(
    root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) of every (B, S) integer argument, one level of mappings deep."""
    for name, value in (*zip(_names(root, len(args)), args, strict=True), *kwargs.items()):
        inner = value.items() if isinstance(value, Mapping) else [(name, value)]
        for key, item in inner:
            if _is_tokens(item) and not _NOT_IDS.search(str(key)):
                yield str(key), item


def _is_tokens(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2 and value.dtype in _INTEGERS


def _names(root: nn.Module, count: int) -> list[str]:
    try:
        names = list(inspect.signature(root.forward).parameters)
    except (TypeError, ValueError):
        names = []
    # Variadic or wrapped signatures name fewer than there are.
    return (names + [f"argument{i}" for i in range(len(names), count)])[:count]
