from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from infoplane.agent.batch import read_batch

IDS = torch.arange(12).reshape(3, 4)
OTHER = IDS + 1


class HuggingFace(nn.Module):
    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None
    ) -> None:
        """Arguments as in transformers."""


class Plain(nn.Module):
    def forward(self, x: Any, y: Any = None) -> None:
        """Arguments without telling names."""


@pytest.mark.parametrize(
    ("root", "args", "kwargs", "targets", "is_shifted"),
    [
        (HuggingFace(), (), {"input_ids": IDS, "labels": OTHER}, OTHER, True),
        (HuggingFace(), (IDS, torch.ones_like(IDS)), {}, IDS, True),
        (HuggingFace(), (IDS, torch.ones_like(IDS), OTHER), {}, OTHER, True),
        (HuggingFace(), ({"input_ids": IDS, "labels": OTHER},), {}, OTHER, True),
        (Plain(), (IDS, OTHER), {}, OTHER, False),
        (Plain(), (IDS,), {"targets": OTHER}, OTHER, False),
        (Plain(), (IDS,), {}, IDS, True),
        (Plain(), (IDS, OTHER[:, :2]), {}, IDS, True),
        (Plain(), (), {"position_ids": OTHER, "x": IDS}, IDS, True),
    ],
)
def test_conventions(
    root: nn.Module, args: tuple[Any, ...], kwargs: Any, targets: torch.Tensor, is_shifted: bool
) -> None:
    batch = read_batch(root, args, kwargs, "auto")
    assert batch is not None
    assert batch.ids is IDS
    assert batch.targets is targets
    assert batch.is_shifted is is_shifted
    assert batch.length == 4


def test_the_setting_overrides_the_convention() -> None:
    hugging = read_batch(HuggingFace(), (), {"input_ids": IDS, "labels": OTHER}, "aligned")
    plain = read_batch(Plain(), (IDS, OTHER), {}, "shifted")
    assert hugging is not None
    assert plain is not None
    assert (hugging.is_shifted, plain.is_shifted) == (False, True)


@pytest.mark.parametrize("args", [(), (torch.randn(2, 3),), (torch.arange(3),), ("text", None)])
def test_no_tokens_is_none(args: tuple[Any, ...]) -> None:
    assert read_batch(Plain(), args, {}, "auto") is None


def test_more_arguments_than_names_are_read_too() -> None:
    class Variadic(nn.Module):
        def forward(self, *inputs: Any) -> None:
            """One name for all."""

    batch = read_batch(Variadic(), (IDS, OTHER), {}, "auto")
    assert batch is not None
    assert batch.targets is OTHER
