from __future__ import annotations

import torch
from torch import nn

from infoplane.agent.frameworks.plain import PlainAdapter


def test_steps_count_from_the_first_by_calls() -> None:
    seen: list[int] = []
    adapter = PlainAdapter(nn.Linear(1, 1), 5)
    adapter.listen(seen.append, lambda: None, lambda: None)
    adapter.advance()
    adapter.advance()
    assert (seen, adapter.step()) == ([5, 6], 7)
    adapter.unlisten()
    adapter.advance()
    assert seen == [5, 6]


def test_wrappers_of_torch_compile_are_looked_through() -> None:
    model = nn.Linear(1, 1)
    assert PlainAdapter(torch.compile(model), 0).root is model
