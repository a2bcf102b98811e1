"""Events from the monitor's methods to the memory transport, through the publisher thread."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent import Monitor
from infoplane.agent.projection import projection_matrix
from infoplane.agent.rewards import Padded

Make = Callable[..., Any]
PROMPTS, GOOD, BAD = ["p", "q"], ["yes", "sure"], ["no", "never"]


def tables(loop: Any, read: Any) -> list[Any]:
    """Close, and return the event messages."""
    loop.monitor.close()
    return [read(m) for m in loop.monitor.messages if m.topic == "infoplane.events"]


def dropped(monitor: Monitor) -> dict[str, float]:
    found = monitor.stats()
    return {k: v for k, v in found.items() if k.startswith("events_dropped") and v}


def test_preferences_round_trip(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    features = torch.arange(200, dtype=torch.float32).reshape(2, 100)
    loop.monitor.observe_preferences(
        PROMPTS,
        GOOD,
        BAD,
        rewards_chosen=torch.tensor([1.0, 2.0], requires_grad=True),
        rewards_rejected=np.array([0.5, np.nan]),
        features_chosen=features,
        features_rejected=features.numpy()[:, :3],
        raters=["ann", None],
        weights=[1, 3],
    )
    (table,) = tables(loop, read)
    columns = table.columns
    assert table.kind == "preferences"
    assert list(columns) == [
        "prompt", "chosen", "rejected", "rater", "weight", "reward_chosen", "reward_rejected",
        "features_chosen", "features_rejected",
    ]  # fmt: skip
    np.testing.assert_array_equal(columns["weight"], [1.0, 3.0])
    np.testing.assert_array_equal(columns["reward_chosen"], [1.0, 2.0])
    np.testing.assert_array_equal(columns["reward_rejected"], [0.5, np.nan])
    projected = features.numpy() @ projection_matrix(100, 64, 0)
    np.testing.assert_allclose(columns["features_chosen"], projected, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(columns["features_rejected"], features.numpy()[:, :3])
    assert columns["features_chosen"].dtype == np.float32
    assert columns["rater"][1] == 0 != columns["rater"][0]
    assert len({*columns["prompt"], *columns["chosen"], *columns["rejected"]}) == 6
    assert loop.monitor.stats()["events_sent"] == 2


def test_rollouts_round_trip(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    names = (
        "rewards", "entropies", "log_probs", "reference_log_probs", "rollout_log_probs",
        "null_log_probs", "tokens", "advantages", "values",
    )  # fmt: skip
    numbers = {name: [float(i), -float(i)] for i, name in enumerate(names)}
    ids = torch.arange(8).reshape(2, 4)
    loop.monitor.observe_rollouts(
        ids, [[1, 2], [3]], prefixes=["turn", "turn"], **numbers, features=np.ones((2, 5)), step=40
    )
    (table,) = tables(loop, read)
    assert table.kind == "rollouts"
    assert table.batch.step == 40
    kept = (
        "reward", "entropy", "log_prob", "reference_log_prob", "rollout_log_prob",
        "null_log_prob", "tokens", "advantage", "value",
    )  # fmt: skip
    assert list(table.columns) == ["prompt", "response", "prefix", *kept, "features"]
    assert len(set(table.columns["prefix"].tolist())) == 1
    for i, name in enumerate(kept):
        np.testing.assert_array_equal(table.columns[name], [i, -i])


def test_numbers_of_tokens_are_reduced_under_the_mask(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    tokens = torch.tensor([[1.0, 3.0, torch.nan], [2.0, 2.0, 5.0]], requires_grad=True)
    names = ("log_probs", "reference_log_probs", "rollout_log_probs", "null_log_probs", "rewards")
    loop.monitor.observe_rollouts(
        ["p", "q"],
        Padded(torch.tensor([[7, 8, 0], [7, 8, 9]]), mask),
        **dict.fromkeys(names, tokens),
        entropies=tokens,
        values=tokens.detach().numpy(),
        advantages=[1.0, 2.0],
        mask=mask,
    )
    loop.monitor.observe_rollouts(["p", "q"], [[7, 8], [7, 8, 9]], stream="lists")
    table, lists = tables(loop, read)
    for column in ("log_prob", "reference_log_prob", "rollout_log_prob", "null_log_prob", "reward"):
        assert table.columns[column].tolist() == [4.0, 9.0]
    assert table.columns["entropy"].tolist() == table.columns["value"].tolist() == [2.0, 3.0]
    assert table.columns["advantage"].tolist() == [1.0, 2.0]
    assert table.columns["tokens"].tolist() == [2.0, 3.0]
    assert table.columns["response"].tolist() == lists.columns["response"].tolist()


def test_log_probs_of_preferences_round_trip(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    names = [
        f"{who}log_probs_{side}" for who in ("", "reference_") for side in ("chosen", "rejected")
    ]
    numbers = {name: [float(i), -float(i)] for i, name in enumerate(names)}
    loop.monitor.observe_preferences(PROMPTS, GOOD, BAD, **numbers)
    (table,) = tables(loop, read)
    for i, name in enumerate(names):
        assert table.columns[name.replace("probs", "prob")].tolist() == [i, -i]


def test_votes_round_trip_and_count_once(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    for step in (1, 2):
        loop.monitor.observe_votes(
            ["p"] * 3,
            ["a", "a", "b"],
            ["ann", "bob", "ann"],
            votes=[1, 0, torch.nan],
            truths=torch.tensor([1.0, 1.0, 0.0]),
            step=step,
        )
    loop.monitor.observe_votes(["p"], ["a"], None, votes=[1], stream="w")  # type: ignore[arg-type]
    loop.monitor.observe_votes(["p"], ["a"], [None], votes=[1], stream="x")
    loop.monitor.observe_votes(["p"], ["a"], ["ann"], votes=None, stream="y")  # type: ignore[arg-type]
    first, again = tables(loop, read)
    assert first.kind == "votes"
    assert list(first.columns) == ["prompt", "response", "rater", "vote", "truth"]
    np.testing.assert_array_equal(first.columns["vote"], [1.0, 0.0, np.nan])
    assert first.ids.tolist() == again.ids.tolist()
    assert len(set(first.ids.tolist())) == 3
    assert dropped(loop.monitor) == {"events_dropped{invalid}": 3}


def test_searches_round_trip(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    loop.monitor.observe_search(
        ["p"] * 3,
        [0, 1, 2],
        parents=[None, 0, 0],
        prefixes=["", "so", "no"],
        depths=[0, 1, 1],
        values=[0.5, 0.7, 0.3],
        visits=[9, 6, 3],
        rewards=[torch.nan, 1.0, 0.0],
    )
    loop.monitor.observe_search(["p"] * 2, ["a", "b"], values=[1, 2], stream="best")
    tree, best = tables(loop, read)
    assert tree.kind == best.kind == "search"
    columns = tree.columns
    hashed = ["prompt", "node", "parent", "prefix"]
    assert list(columns) == [*hashed, "depth", "value", "visits", "reward"]
    assert columns["parent"].tolist() == [0, columns["node"][0], columns["node"][0]]
    assert set(best.columns) == {"prompt", "node", "parent", "value"}
    assert best.columns["parent"].tolist() == [0, 0]


def test_chains_of_thought_round_trip(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    loop.monitor.observe_cot(
        ["p"] * 2,
        ["first.", "first. second."],
        indices=[0, 1],
        thoughts=["first.", None],
        responses=["first. second."] * 2,
        answer_log_probs=torch.tensor([-3.0, -0.5]),
        is_final=torch.tensor([False, True]),
        rewards=[1.0, 1.0],
    )
    loop.monitor.observe_cot(["p"], ["first."], indices=[0], stream="bare")
    chain, bare = tables(loop, read)
    columns = chain.columns
    hashed = ["prompt", "prefix", "thought", "response"]
    assert list(columns) == [*hashed, "index", "answer_log_prob", "is_final", "reward"]
    assert columns["prefix"][1] == columns["response"][1]
    assert columns["prefix"][0] == columns["thought"][0]
    assert columns["thought"][1] == 0
    assert columns["is_final"].tolist() == [0.0, 1.0]
    assert set(bare.columns) == {"prompt", "prefix", "thought", "index"}


def test_a_stream_keeps_the_contents_it_began_with(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    loop.monitor.observe_rollouts(["p"], ["r"], rewards=[1.0])
    loop.monitor.observe_rollouts(["p"], ["r"], rewards=[1.0], prefixes=["x"])
    assert len(tables(loop, read)) == 1
    assert dropped(loop.monitor) == {"events_dropped{invalid}": 1}


def test_scores_round_trip(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    loop.monitor.observe_scores([1, 2], [b"a", b"b"], rewards=[1.0, 0.0], stream="verifier")
    (table,) = tables(loop, read)
    assert (table.kind, table.batch.stream) == ("scores", "verifier")
    assert table.message.key == b"test|verifier"
    assert list(table.columns) == ["prompt", "response", "reward"]


def test_the_step_is_that_of_the_last_training_forward(make_loop: Make, read: Any) -> None:
    loop = make_loop(first_step=30)
    for _ in range(2):
        loop.monitor.observe_scores([1], [2], rewards=[0.0])
        loop.step()
        loop.monitor.observe_scores([1], [2], rewards=[0.0])
    assert [table.batch.step for table in tables(loop, read)] == [30, 30, 30, 31]


def test_a_paused_or_detached_monitor_goes_on_with_events(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    loop.monitor.pause()
    loop.monitor.observe_scores([1], [2], rewards=[0.0])
    loop.monitor.detach()
    loop.monitor.observe_scores([1], [2], rewards=[0.0])
    assert len(tables(loop, read)) == 2


def test_a_disabled_monitor_does_nothing_whatever_it_is_given(make_loop: Make) -> None:
    for monitor in (Monitor(), make_loop(enabled=False).monitor):
        monitor.observe_preferences(object(), 1, "x")  # type: ignore[arg-type]
        monitor.observe_rollouts(None, None, rewards=object())  # type: ignore[arg-type]
        monitor.observe_scores(None, None, rewards=None)  # type: ignore[arg-type]
        monitor.observe_votes(None, None, None, votes=None)  # type: ignore[arg-type]
        monitor.observe_search(1, object())  # type: ignore[arg-type]
        monitor.observe_cot("x", None, indices=None)  # type: ignore[arg-type]
        assert monitor.stats() == {}


def test_after_the_end_events_are_counted_as_records_and_as_events(make_loop: Make) -> None:
    loop = make_loop()
    loop.monitor.close()
    loop.monitor.observe_preferences(PROMPTS, GOOD, BAD)
    stats = loop.monitor.stats()
    assert stats["events_dropped{closed}"] == 2
    assert stats["records_dropped{closed}"] == 1


def test_what_the_transport_refuses_is_counted_in_both(make_loop: Make) -> None:
    loop = make_loop()
    deadline = time.monotonic() + 20
    loop.monitor.observe_preferences(PROMPTS, GOOD, BAD)
    while not loop.monitor.messages and time.monotonic() < deadline:
        time.sleep(0.005)
    loop.monitor._outlet.transport.accepting = False
    loop.monitor.observe_preferences(PROMPTS, GOOD, BAD)
    loop.monitor.close()
    stats = loop.monitor.stats()
    assert stats["events_sent"] == stats["events_dropped{not_accepted}"] == 2
    assert stats["records_dropped{not_accepted}"] == 1


def test_a_full_queue_refuses_events_and_counts_them(make_loop: Make) -> None:
    loop = make_loop(**{"buffers.queue_bytes": 1 << 16})
    loop.monitor.observe_scores(["x" * 70_000] * 3, [1, 2, 3], rewards=[1.0, 2.0, 3.0])
    loop.monitor.close()
    assert dropped(loop.monitor) == {"events_dropped{byte_budget}": 3}


def test_sent_and_dropped_add_up_to_what_was_observed(make_loop: Make) -> None:
    loop = make_loop(**{"events.bytes_per_s": 2048})
    for i in range(20):
        loop.monitor.observe_scores(range(100), range(100), rewards=np.arange(100 - i % 2))
    loop.monitor.close()
    stats = loop.monitor.stats()
    assert stats["events_dropped{invalid}"] == 1000
    assert stats["events_dropped{budget}"] > 0
    assert stats["events_sent"] > 0
    assert stats["events_sent"] + sum(dropped(loop.monitor).values()) == 2000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_and_sends_nothing(make_loop: Make, read: Any) -> None:
    loop = make_loop()
    loop.monitor.observe_preferences(PROMPTS, GOOD, BAD)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            loop.monitor.observe_preferences(PROMPTS, GOOD, BAD)
            code = 0 if loop.monitor.stats()["events_dropped{fork}"] == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(tables(loop, read)) == 1


def test_training_is_bit_for_bit_the_same_with_events(make_loop: Make, make_model: Make) -> None:
    def train(loop: Any, observes: bool) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        for _ in range(4):
            ids = loop.step()
            if observes:
                embedded = loop.model.embed(ids).mean(1).repeat(1, 5)
                loop.monitor.observe_preferences(
                    ids, ids + 1, ids, rewards_chosen=embedded[:, 0], features_chosen=embedded
                )
        flat = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
        return flat, torch.get_rng_state()

    state = torch.get_rng_state()
    model = make_model()
    twin = copy.deepcopy(model)
    on, off = train(make_loop(model), True), train(make_loop(twin), False)
    torch.set_rng_state(state)
    assert torch.equal(on[0], off[0])
    assert torch.equal(on[1], off[1])
