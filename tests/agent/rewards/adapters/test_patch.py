"""Replaced methods: what goes through them, what does not, and that they are given back."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from infoplane.agent.rewards.adapters.patch import Arguments, Patch


class Library:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def double(self, number: int, *, sign: int = 1) -> int:
        """Says so."""
        self.calls.append("double")
        if number < 0:
            raise ValueError("negative")
        return 2 * number * sign


def test_arguments_are_found_by_place_and_name() -> None:
    library, seen = Library(), []
    patch = Patch(library)
    patch.watch("double", lambda a, result: seen.append((a.get(0, "number"), result)))
    assert library.double(3, sign=-1) == library.double(number=3, sign=-1) == -6
    assert seen == [(3, -6)] * 2
    assert library.double.__doc__ == "Says so."
    with pytest.raises(KeyError):
        Arguments((), {}).get(0, "number")


def test_what_a_watcher_raises_stays_here_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Renamed(Library):
        pass

    def broken(*_: Any) -> None:
        raise KeyError("the secret prompt")

    library = Renamed()
    Patch(library).watch("double", broken, before=broken, finally_=broken)
    with caplog.at_level(logging.WARNING):
        assert [library.double(2), library.double(2)] == [4, 4]
    assert library.calls == ["double"] * 2
    assert caplog.text.count("Renamed.double is not observed: KeyError") == 1
    assert "secret" not in caplog.text


def test_what_the_method_raises_goes_through_and_ends_the_call() -> None:
    library, seen = Library(), []
    patch = Patch(library)
    patch.watch(
        "double",
        lambda *_: seen.append("after"),
        before=lambda: seen.append("before"),
        finally_=lambda: seen.append("finally"),
    )
    with pytest.raises(ValueError, match="negative"):
        library.double(-1)
    assert seen == ["before", "finally"]


def test_undo_gives_methods_back_unless_somebody_wrapped_them_again() -> None:
    library, seen = Library(), []
    patch = Patch(library)
    patch.watch("double", lambda *_: seen.append(1))
    patch.undo()
    assert "double" not in vars(library)
    own = lambda number: number  # noqa: E731
    library.double = own  # type: ignore[method-assign, assignment]
    patch.watch("double", lambda *_: seen.append(2))
    assert library.double(1) == 1
    patch.undo()
    assert library.double is own
    patch.watch("double", lambda *_: seen.append(3))
    later = library.double
    library.double = lambda number: later(number)  # type: ignore[method-assign, assignment, misc]
    again = library.double
    patch.undo()
    assert library.double is again
    assert seen == [2]
