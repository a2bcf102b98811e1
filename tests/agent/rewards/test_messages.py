"""Messages: identity of events, byte budget, split and privacy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.rewards.messages import MAX_MESSAGE_BYTES, smallest, split

Make = Callable[..., Any]
TEXTS = [f"text {i}" for i in range(50)]


def test_a_judgement_has_one_id_wherever_and_whenever_it_is_seen(make_bench: Make) -> None:
    benches = [make_bench(rank=0), make_bench(rank=3, attempt=2), make_bench()]
    benches[0].prefer(TEXTS, TEXTS[1:] + TEXTS[:1], TEXTS, step=1)
    benches[1].prefer(TEXTS, TEXTS[1:] + TEXTS[:1], TEXTS, step=9, stream="other")
    for i in range(50):
        benches[2].prefer([TEXTS[i]], [TEXTS[(i + 1) % 50]], [TEXTS[i]], weight=[0.5])
    assert benches[0].ids() == benches[1].ids() == benches[2].ids()
    assert len(set(benches[0].ids())) == 50


def test_every_part_of_a_judgement_makes_its_id(make_bench: Make) -> None:
    bench = make_bench()
    bench.prefer(["p", "q", "p", "p", "p"], ["c", "c", "d", "c", "r"], ["r", "r", "r", "s", "c"])
    bench.prefer(["p"] * 3, ["c"] * 3, ["r"] * 3, rater=["ann", "bob", None])
    ids = bench.ids()
    assert ids[0] == ids[-1]
    assert len(set(ids)) == 7
    assert bench.tables[0].columns["rater"].tolist() == [0] * 5
    assert (bench.tables[1].columns["rater"] != 0).tolist() == [True, True, False]


def test_rollouts_are_told_apart_by_step_rank_and_place(make_bench: Make) -> None:
    benches = [make_bench(), make_bench(rank=1), make_bench(attempt=2)]
    for bench in benches:
        bench.roll(["p", "p"], ["r", "r"], step=4)
        bench.roll(["p", "p"], ["r", "r"], step=5)
    assert len({*benches[0].ids(), *benches[1].ids()}) == 8
    # A restart that repeats a step repeats its events.
    assert benches[0].ids() == benches[2].ids()
    prompts = [table.columns["prompt"].tolist() for table in benches[0].tables]
    assert prompts == [[prompts[0][0]] * 2] * 2


def test_equal_rows_of_several_calls_in_one_step_are_events_of_their_own(make_bench: Make) -> None:
    benches = [make_bench(), make_bench()]
    for bench in benches:
        for step in (4, 4, 5, 5):
            bench.roll(["p", "p"], ["r", "r"], step=step)
        bench.roll(["p"], ["r"], step=5, stream="other")
    # A policy that has collapsed samples one response in all micro-batches.
    assert len(set(benches[0].ids())) == 8
    assert benches[0].ids() == benches[1].ids()


def test_another_key_gives_other_ids_and_hashes(make_bench: Make) -> None:
    benches = [make_bench(), make_bench(**{"sampling.key_seed": 1})]
    for bench in benches:
        bench.prefer(TEXTS, TEXTS, TEXTS)
    first, second = (bench.tables[0] for bench in benches)
    assert not set(first.ids.tolist()) & set(second.ids.tolist())
    for name in ("prompt", "chosen", "rejected"):
        assert not set(first.columns[name].tolist()) & set(second.columns[name].tolist())


def test_ids_are_equal_in_another_process(make_bench: Make) -> None:
    program = """
from tests_bench import Bench
bench = Bench(rank=2)
bench.prefer(["p", "q"], ["c", [1, 2]], ["r", 7])
print(*bench.ids())
"""
    from pathlib import Path

    path = Path(__file__).with_name("conftest.py")
    load = (
        "import importlib.util as u, sys\n"
        f"s = u.spec_from_file_location('tests_bench', {str(path)!r})\n"
        "m = u.module_from_spec(s); sys.modules['tests_bench'] = m; s.loader.exec_module(m)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", load + program], capture_output=True, text=True, check=True
    )
    bench = make_bench()
    bench.prefer(["p", "q"], ["c", torch.tensor([1, 2])], ["r", 7])
    assert [int(word) for word in done.stdout.split()] == bench.ids()


def test_a_large_call_becomes_several_messages_whose_offers_add_up(make_bench: Make) -> None:
    bench = make_bench()
    size = 5000
    features = torch.arange(size * 64, dtype=torch.float32).reshape(size, 64)
    numbers = np.arange(size)
    bench.prefer(numbers, numbers, numbers, features_chosen=features, reward_chosen=numbers)
    tables = bench.tables
    assert len(tables) > 3
    assert max(message.nbytes for message in bench.messages) <= MAX_MESSAGE_BYTES
    assert [table.batch.seq for table in tables] == list(range(len(tables)))
    assert [table.batch.offered for table in tables] == [len(table.ids) for table in tables]
    assert sum(table.batch.offered for table in tables) == size == len(set(bench.ids()))
    assert [message.events for message in bench.messages] == [len(table.ids) for table in tables]
    joined = np.concatenate([table.columns["features_chosen"] for table in tables])
    np.testing.assert_array_equal(joined, features.numpy())
    rewards = np.concatenate([table.columns["reward_chosen"] for table in tables])
    np.testing.assert_array_equal(rewards, numbers)
    bench.prefer([1], [2], [3], features_chosen=features[:1], reward_chosen=[1])
    assert bench.tables[-1].batch.seq == len(tables)


def test_the_budget_keeps_the_smallest_ids_and_counts_the_rest(make_bench: Make) -> None:
    free, tight = make_bench(), make_bench(**{"events.bytes_per_s": 1024})
    for bench in (free, tight):
        bench.prefer(np.arange(500), np.arange(500), np.arange(500), reward_chosen=np.arange(500))
    every, kept = free.tables[0], tight.tables[0]
    size = len(kept.ids)
    assert 30 < size < 500
    assert len(tight.messages[0].value) <= 4 * 1024
    assert sorted(kept.ids.tolist()) == sorted(every.ids.tolist())[:size]
    # Rows stay whole, and in the order of the call.
    places = kept.columns["reward_chosen"].astype(int)
    assert (np.diff(places) > 0).all()
    np.testing.assert_array_equal(every.ids[places], kept.ids)
    np.testing.assert_array_equal(every.columns["prompt"][places], kept.columns["prompt"])
    assert kept.batch.offered == 500
    assert tight.dropped() == {"budget": 500 - size}
    assert free.dropped() == {}


def test_two_ranks_in_need_keep_the_same_judgements(make_bench: Make) -> None:
    benches = [make_bench(rank=r, **{"events.bytes_per_s": 1024}) for r in range(2)]
    order = np.arange(500)
    benches[0].prefer(order, order, order)
    benches[1].prefer(order[::-1], order[::-1], order[::-1])
    assert set(benches[0].ids()) == set(benches[1].ids())


def test_an_empty_bucket_still_tells_what_was_offered_and_refills(make_bench: Make) -> None:
    bench = make_bench(**{"events.bytes_per_s": 1024})
    for _ in range(3):
        bench.prefer(np.arange(500), np.arange(500), np.arange(500))
    assert [len(table.ids) for table in bench.tables][1:] == [0, 0]
    assert [table.batch.offered for table in bench.tables] == [500] * 3
    assert bench.tables[1].columns["prompt"].shape == (0,)
    bench.now += 30
    bench.prefer(np.arange(500), np.arange(500), np.arange(500))
    assert len(bench.tables[-1].ids) == len(bench.tables[0].ids)
    sent = sum(message.events for message in bench.messages)
    assert bench.dropped() == {"budget": 2000 - sent}


def test_over_a_long_time_the_rate_is_kept(make_bench: Make) -> None:
    bench = make_bench(**{"events.bytes_per_s": 2048})
    for _ in range(200):
        bench.now += 0.5
        bench.prefer(np.arange(200), np.arange(200), np.arange(200))
    sent = sum(message.nbytes for message in bench.messages)
    assert 0.9 * 2048 * 100 < sent < 2048 * (100 + 4)


def test_mode_none_sends_nothing_that_depends_on_a_content(
    make_bench: Make, monkeypatch: Any
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 5_000_000_000)

    def sent(*contents: Any) -> list[bytes]:
        bench = make_bench(rank=2, **{"tokens.mode": "none"})
        for _ in range(2):
            bench.prefer(*contents, rater=contents[0], reward_chosen=[1.0, 2.0])
            bench.roll(*contents[:2], reward=[1.0, 2.0], stream="rollouts")
        return [message.key + message.value for message in bench.messages]

    texts = sent(["a", "b"], ["c", "d"], ["e", "f"])
    assert texts == sent(torch.ones(2, 900, dtype=torch.long), [[1], [2, 3]], ["x" * 999, 5])
    # Values are not even looked at.
    assert texts == sent([object(), None], [1.5, {}], [(), "secret"])


def test_mode_none_has_no_content_columns_and_unique_ids(make_bench: Make) -> None:
    benches = [
        make_bench(rank=r, attempt=a, **{"tokens.mode": "none"}) for r in (0, 1) for a in (1, 2)
    ]
    for bench in benches:
        for _ in range(3):
            bench.prefer(["p"] * 4, ["c"] * 4, ["r"] * 4, rater=["me"] * 4)
    ids = [i for bench in benches for i in bench.ids()]
    assert len(ids) == len(set(ids)) == 48
    assert {name for table in benches[0].tables for name in table.columns} == {"weight"}


def test_mode_none_has_unique_ids_when_calls_are_split_or_refused(make_bench: Make) -> None:
    bench = make_bench(**{"tokens.mode": "none", "events.bytes_per_s": 600_000})
    size = 12_000
    features = np.zeros((size, 32), dtype=np.float32)
    for _ in range(3):
        bench.now += 1
        bench.roll(np.zeros(size, int), np.zeros(size, int), features=features)
    assert len(bench.messages) > 5
    assert bench.dropped()["budget"] > 0
    assert len(bench.ids()) == len(set(bench.ids()))
    assert sum(table.batch.offered for table in bench.tables) == 3 * size


def test_smallest_and_split_at_their_edges() -> None:
    ids = np.array([5, 1, 5, 0, 9], dtype=np.uint64)
    assert smallest(ids, 3).tolist() == [0, 1, 3]
    assert smallest(ids, -2).tolist() == []
    assert smallest(ids, 5).tolist() == [0, 1, 2, 3, 4]
    assert [part.tolist() for part in split(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [part.tolist() for part in split(np.arange(2), 0)] == [[0], [1]]
    assert [part.tolist() for part in split(np.arange(0), 3)] == [[]]


@pytest.mark.parametrize("mode", ["ids", "buckets"])
def test_other_modes_send_hashes_and_no_text(make_bench: Make, mode: str) -> None:
    bench = make_bench(**{"tokens.mode": mode})
    bench.prefer(["the secret prompt"], ["yes, secret"], ["no, secret"], rater=["secret"])
    assert b"secret" not in bench.messages[0].value
    assert {n: c.dtype.name for n, c in bench.tables[0].columns.items()} == {
        "prompt": "uint64",
        "chosen": "uint64",
        "rejected": "uint64",
        "rater": "uint64",
        "weight": "float64",
    }
