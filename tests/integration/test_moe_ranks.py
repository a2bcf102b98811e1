"""DeepSpeed's mixture of experts on two ranks: what routers sent adds up, and nothing else changes.

Top-1 and top-2 gates with expert-parallel size 1 and 2, random token selection, noise on the second choice and a
capacity that drops tokens, so that a touched random state would show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probe_job import BATCH, EXPERTS, LENGTH, MOE_STEPS, RANKS
from probe_reading import merged, run_scenario

pytestmark = pytest.mark.integration
TOKENS = BATCH * LENGTH
CASES = [(ep, k) for ep in (1, 2) for k in (1, 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_scenario("moe", tmp_path_factory.mktemp("moe"))


def known(folder: Path, ep: int, k: int, probe: str) -> list[dict[str, Any]]:
    paths = [folder / f"moe-{ep}-{k}-{probe}-{rank}.npz" for rank in range(RANKS)]
    return [dict(np.load(path)) for path in paths]


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(("ep", "k"), CASES)
def test_losses_and_random_state_are_bit_equal_with_the_probe_on_and_off(
    folder: Path, ep: int, k: int
) -> None:
    for on, off in zip(known(folder, ep, k, "on"), known(folder, ep, k, "off"), strict=True):
        assert len(set(on["losses"])) == MOE_STEPS, "nothing was trained"
        np.testing.assert_array_equal(on["losses"], off["losses"])
        np.testing.assert_array_equal(on["state"], off["state"])


@pytest.mark.parametrize(("ep", "k"), CASES)
def test_what_ranks_sent_adds_up_to_a_direct_count(folder: Path, ep: int, k: int) -> None:
    found = merged(folder, f"moe-{ep}-{k}-on", "router")
    logits = [rank["logits"] for rank in known(folder, ep, k, "on")]  # (steps, layers, N, E) each
    assert sorted(found) == list(range(MOE_STEPS))
    for step, taps in found.items():
        assert sorted(taps) == ["00/router", "01/router", "02/router"]
        for layer, name in enumerate(sorted(taps)):
            tap, own = taps[name], [rank[step, layer] for rank in logits]
            first = [np.bincount(x.argmax(-1), minlength=EXPERTS) for x in own]
            capacity = int(np.ceil(TOKENS / EXPERTS * 0.75 * k))
            if k == 1:
                np.testing.assert_array_equal(tap["load"], sum(first))
                dropped = sum(np.maximum(load - capacity, 0).sum() for load in first)
                assert tap["dropped"] == [dropped]
            else:  # the second choice is drawn at random
                assert (tap["load"] >= sum(first)).all()
                assert 0 <= tap["dropped"][0] < tap["load"].sum()
            assert tap["load"].sum() == RANKS * TOKENS * k
            p = [softmax(x) for x in own]
            np.testing.assert_allclose(tap["probability"], sum(x.sum(0) for x in p), rtol=1e-5)
            entropy = -sum((x * np.log(x)).sum() for x in p)
            np.testing.assert_allclose(tap["entropy"], [entropy], rtol=1e-5)
            shares = zip(p, first, strict=True)
            # GShard: E sum over experts of mean probability x share of first choices.
            auxiliary = sum(EXPERTS * (x.mean(0) * n / TOKENS).sum() for x, n in shares)
            np.testing.assert_allclose(tap["auxiliary"], [auxiliary], rtol=1e-5)
            assert tap["tokens"] == [RANKS * TOKENS]
            assert tap["passes"] == [RANKS]


@pytest.mark.parametrize("k", [1, 2])
def test_loads_do_not_depend_on_where_experts_are(folder: Path, k: int) -> None:
    one, two = (merged(folder, f"moe-{ep}-{k}-on", "router") for ep in (1, 2))
    first, second = (known(folder, ep, k, "on")[0]["losses"] for ep in (1, 2))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    for step, taps in one.items():
        for name, tap in taps.items():
            np.testing.assert_array_equal(tap["load"], two[step][name]["load"])
            np.testing.assert_array_equal(tap["dropped"], two[step][name]["dropped"])


def test_switched_off_it_sends_nothing(folder: Path) -> None:
    assert merged(folder, "moe-2-1-off", "router") == {}
