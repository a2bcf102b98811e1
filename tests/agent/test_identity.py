from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
import torch.distributed as dist

from infoplane.agent import identity, rendezvous
from infoplane.agent.identity import Coordinates, check_sizes, data_parallel_coordinates, resolve
from infoplane.agent.settings import Settings


def test_a_single_process_names_itself() -> None:
    found = resolve(Settings(), data_parallel_coordinates())
    assert found.run.startswith("run-")
    assert found.attempt > 1_700_000_000_000
    assert (found.coordinates.dp, found.coordinates.pieces) == (0, 1)


def test_settings_win() -> None:
    found = resolve(Settings(run="named", attempt=7), Coordinates())
    assert (found.run, found.attempt) == ("named", 7)


def test_ranks_take_what_the_first_one_put_into_the_store(monkeypatch: Any) -> None:
    """A real store, asked by 8 threads as ranks would; tests/integration does it with processes."""
    store = dist.HashStore()
    monkeypatch.setattr(rendezvous, "store", lambda: store)
    found: list[tuple[str, str]] = []

    def rank(number: int) -> None:
        one = rendezvous.agree("run", f"run-{number}")
        found.append((one, rendezvous.agree(f"attempt/{one}/0", str(number))))

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_restart_gets_an_attempt_of_its_own(monkeypatch: Any) -> None:
    store = dist.HashStore()
    monkeypatch.setattr(rendezvous, "store", lambda: store)
    settings = Settings(run="named")
    monkeypatch.setattr(identity, "_attached", iter([0, 0, 0, 1]))
    clock = iter(range(10**18, 10**18 + 10**10, 10**9))
    monkeypatch.setattr(identity.time, "time_ns", lambda: next(clock))
    first = resolve(settings, Coordinates()).attempt
    same = resolve(settings, Coordinates()).attempt
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    restarted = resolve(settings, Coordinates()).attempt
    second_engine = resolve(settings, Coordinates()).attempt
    assert first == same < restarted < second_engine


def _resolve_all(monkeypatch: Any, names: list[str | None]) -> list[str]:
    """Return the run of every rank; ranks are threads with one real store."""
    store = dist.HashStore()
    monkeypatch.setattr(rendezvous, "store", lambda: store)
    found: dict[int, str] = {}

    def rank(number: int) -> None:
        found[number] = identity._agree_run(names[number], 0, len(names), 10**12 + number)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(names))]


def test_a_name_that_one_rank_was_given_is_everybodys(monkeypatch: Any) -> None:
    for place in range(4):
        names: list[str | None] = [None] * 4
        names[place] = "named"
        assert _resolve_all(monkeypatch, names) == ["named"] * 4


def test_ranks_without_a_name_make_one_up_without_waiting(monkeypatch: Any) -> None:
    monkeypatch.setattr(identity, "_NAME_WAIT_S", 1e9)  # would hang if anybody waited for it
    (name,) = set(_resolve_all(monkeypatch, [None] * 5))
    assert name.startswith("run-")


def test_ranks_with_different_names_use_one_and_say_so(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        (name,) = set(_resolve_all(monkeypatch, ["one", "other"]))
    assert name in ("one", "other")
    assert ".deepspeed_env" in caplog.text
    assert repr("one") in caplog.text
    assert repr("other") in caplog.text


def test_a_missing_rank_is_not_waited_for_long(monkeypatch: Any) -> None:
    monkeypatch.setattr(rendezvous, "store", dist.HashStore)
    monkeypatch.setattr(identity, "_NAME_WAIT_S", 0.05)
    assert identity._agree_run(None, 0, 2, 10**12).startswith("run-")


def test_sizes_that_do_not_make_the_world_are_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert check_sizes(Coordinates(world=4, dp_size=2, tp_size=2))
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        assert not check_sizes(Coordinates(world=4, dp_size=4, tp_size=2))
    assert "dp 4 x tp 2" in caplog.text


def test_a_world_without_a_process_group_is_an_error_in_the_log(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        found = data_parallel_coordinates()
    assert (found.rank, found.dp_size) == (1, 2)
    assert "INFOPLANE_ATTEMPT" in caplog.text


def test_every_coordinate_goes_onto_the_wire() -> None:
    numbers = dict(zip(Coordinates.__slots__, range(1, 13), strict=True))
    wire = Coordinates(**numbers).to_wire()
    assert {name: getattr(wire, name) for name in numbers} == numbers


def _attempts(monkeypatch: Any, told: list[int | None]) -> list[int]:
    """Return the attempt of every rank, in the order in which they ask; ranks are threads with one real store."""
    store = dist.HashStore()
    monkeypatch.setattr(rendezvous, "store", lambda: store)
    return [
        identity._agree_attempt(wanted, "r", 0, 10**12 + rank) for rank, wanted in enumerate(told)
    ]


def test_ranks_that_were_told_one_attempt_say_nothing(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert _attempts(monkeypatch, [7, 7, None]) == [7, 7, 7]
    assert not caplog.records


def test_ranks_with_different_attempts_use_one_and_say_so(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        assert _attempts(monkeypatch, [7, 8, 7, None]) == [7, 7, 7, 7]
        assert _attempts(monkeypatch, [None, 9]) == [10**12, 10**12]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "told to be attempt 8, but another rank said 7 first" in told[0]
    assert ".deepspeed_env" in told[0]
    assert "told to be attempt 9" in told[1]


def test_a_restart_may_be_told_the_same_attempt_again(monkeypatch: Any) -> None:
    store = dist.HashStore()
    monkeypatch.setattr(rendezvous, "store", lambda: store)
    first = identity._agree_attempt(None, "r", 0, 10**12)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert identity._agree_attempt(7, "r", 0, 10**12 + 1) == 7
    assert first == 10**12
