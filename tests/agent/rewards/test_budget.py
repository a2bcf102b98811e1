from __future__ import annotations

from infoplane.agent.rewards.budget import ByteBucket


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_full_at_first_fills_at_its_rate_and_never_overflows() -> None:
    clock = Clock()
    bucket = ByteBucket(1000, clock)
    assert bucket.available() == 4000
    bucket.spend(3500)
    assert bucket.available() == 500
    clock.now += 1.5
    assert bucket.available() == 2000
    clock.now += 60
    assert bucket.available() == 4000


def test_debt_is_bounded_and_paid_back_first() -> None:
    clock = Clock()
    bucket = ByteBucket(1000, clock)
    bucket.spend(1e9)
    assert bucket.available() == -4000
    clock.now += 5
    assert bucket.available() == 1000


def test_a_clock_that_goes_back_earns_nothing() -> None:
    clock = Clock()
    bucket = ByteBucket(1000, clock)
    bucket.spend(4000)
    clock.now -= 50
    assert bucket.available() == 0
    clock.now += 1
    assert bucket.available() == 1000
