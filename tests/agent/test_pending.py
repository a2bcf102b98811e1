"""Sketches written together say what sketches written one by one say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from infoplane.agent import pending
from infoplane.agent.layout import Layout
from infoplane.agent.pending import Pending
from infoplane.agent.sketch import (
    add_act_regions,
    add_block_regions,
    sketch_act,
    sketch_block,
)

ROWS, DIM, K = 96, 8, 6
INDEX = torch.arange(0, 12, 2)
WIDTHS = (40, 40, 24, 40, 40)


def layout_of(taps: int) -> Layout:
    layout = Layout()
    for tap in range(taps):
        add_block_regions(layout, f"{tap}", K, DIM)
        add_act_regions(layout, f"{tap}")
    return layout


def views_of(layout: Layout) -> dict[str, torch.Tensor]:
    # What an earlier step left must not show through.
    return layout.tensors(torch.full((layout.nbytes,), 7, dtype=torch.uint8))


def activations() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(ROWS, width, generator=generator) for width in WIDTHS]
    found[1][3, 5] = torch.nan
    found[3][4] = torch.inf
    return found


@pytest.mark.parametrize("taps_at_once", [1, 2, 3, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stacks_say_what_single_taps_say(
    monkeypatch: pytest.MonkeyPatch, taps_at_once: int, dtype: Any
) -> None:
    monkeypatch.setitem(pending.STACK_BYTES, "cpu", 1 << 30)
    monkeypatch.setattr(pending, "MOST_TAPS", taps_at_once)
    layout = layout_of(len(WIDTHS))
    alone, together = views_of(layout), views_of(layout)
    waiting = Pending(lambda _: None)
    for tap, rows in enumerate(activations()):
        matrix = torch.randn(rows.shape[1], DIM, generator=torch.Generator().manual_seed(tap))
        x = rows.to(dtype)
        sketch_block(x, matrix, INDEX, alone, f"{tap}")
        sketch_act(x, INDEX, alone, f"{tap}")
        waiting.add_block(f"{tap}", x, matrix, INDEX, together)
        waiting.add_act(f"{tap}", x, INDEX, together, x.shape[1])
        x.fill_(3.0)  # what the model does with it later does not matter
    waiting.write_acts(together)
    waiting.write_blocks(INDEX, together)
    assert not waiting
    for name, expected in alone.items():
        torch.testing.assert_close(together[name], expected, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_a_stack_that_fails_names_its_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pending.STACK_BYTES, "cpu", 1 << 30)
    failed: list[str] = []
    waiting = Pending(failed.extend)
    layout = layout_of(3)
    views = views_of(layout)
    for tap in range(3):
        waiting.add_block(f"{tap}", torch.ones(ROWS, 4), torch.ones(4, DIM), INDEX, views)
    monkeypatch.setattr(pending, "write_blocks", _fail)
    with pytest.raises(RuntimeError, match="broken"):
        waiting.write_blocks(INDEX, views)
    assert failed == ["0", "1", "2"]
    assert not waiting


def _fail(*_: Any) -> None:
    raise RuntimeError("broken")


@pytest.mark.parametrize("taps_at_once", [2, 64])
def test_a_run_with_stacks_sends_what_a_run_without_sends(
    make_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, taps_at_once: int
) -> None:
    found = []
    for limit in (0, 1 << 30):
        monkeypatch.setitem(pending.STACK_BYTES, "cpu", limit)
        monkeypatch.setattr(pending, "MOST_TAPS", taps_at_once)
        torch.manual_seed(0)
        loop = make_loop(profile="deep")
        for _ in range(3):
            loop.step()
        found.append(
            {
                (step, name): tap.SerializeToString(deterministic=True)
                for step, taps in loop.taps().items()
                for name, tap in taps.items()
            }
        )
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 20
    assert any(name.endswith("/activation") for _, name in found[0])
    assert any(name.endswith("/gradient") for _, name in found[0])
    same = sum(found[0][name] == found[1][name] for name in found[0])
    assert same >= 0.8 * len(found[0])  # products of stacks may round otherwise


def test_taps_whose_stack_fails_send_nothing(
    make_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pending.STACK_BYTES, "cpu", 1 << 30)
    loop = make_loop()
    loop.step()
    monkeypatch.setattr(pending, "write_blocks", _fail)
    for _ in range(5):
        loop.step()
    taps = loop.taps()
    assert any(name.endswith("/block") for name in taps[0])
    assert not any(name.endswith("/block") for step in range(1, 6) for name in taps[step])
    assert all(any(name.endswith("/act") for name in taps[step]) for step in range(6))
    # After three errors nobody tries again.
    assert loop.monitor.stats()["tap_errors{RuntimeError}"] == 3
