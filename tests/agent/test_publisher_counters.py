"""Counters are exact over threads."""

from __future__ import annotations

import threading

from infoplane.agent.counters import Counters


def test_counts_of_many_threads_add_up() -> None:
    counters = Counters()

    def add() -> None:
        for i in range(5000):
            counters.add("n", str(i % 3))
            counters.add("seconds", value=0.5)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):  # a snapshot taken meanwhile must neither fail nor disturb
        counters.snapshot()
    for thread in threads:
        thread.join()
    assert counters.total("n") == 20_000
    assert counters.snapshot()["seconds", ""] == 10_000
    assert counters.total("unheard of") == 0


def test_snapshot_is_a_copy_sorted_by_name_and_reason() -> None:
    counters = Counters()
    counters.add("b", "y")
    counters.add("b", "x", 2)
    counters.add("a")
    snapshot = counters.snapshot()
    counters.add("a")
    assert list(snapshot.items()) == [(("a", ""), 1), (("b", "x"), 2), (("b", "y"), 1)]
