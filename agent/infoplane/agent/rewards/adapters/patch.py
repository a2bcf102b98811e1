"""Methods of one object, replaced on the instance and given back."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeAlias

from torch.utils.hooks import RemovableHandle

from infoplane.agent.rewards.adapters.attempt import attempt

Before: TypeAlias = Callable[[], None]
After: TypeAlias = Callable[["Arguments", Any], None]
_NOTHING: Final = object()


class Arguments:
    """The arguments of one call of a method, by place or name."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._args = args
        self._kwargs = kwargs

    def get(self, place: int, name: str) -> Any:
        """Return the argument at `place`, counted without self, or called `name`.

        Raises:
            KeyError: there is none.
        """
        return self._args[place] if place < len(self._args) else self._kwargs[name]


class Patch:
    """Watches calls of methods of `target`; results and exceptions pass through as they are.

    Args:
        target: whose methods are replaced, on the instance only.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._name = type(target).__name__
        self._replaced: dict[str, Callable[..., Any]] = {}
        self._earlier: dict[str, Any] = {}
        self._hooks: list[RemovableHandle] = []

    def watch(
        self,
        method: str,
        after: After,
        *,
        before: Before | None = None,
        finally_: Before | None = None,
    ) -> None:
        """Call `before()`, the method, `after(arguments, result)` if it did not raise, and `finally_()`.

        Raises:
            AttributeError: the object has no such method.
        """
        original, where = getattr(self._target, method), f"{self._name}.{method}"

        @wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                if before is not None:
                    attempt(where, before)
                result = original(*args, **kwargs)
                attempt(where, after, Arguments(args, kwargs), result)
                return result
            finally:
                if finally_ is not None:
                    attempt(where, finally_)

        self._earlier[method] = self._target.__dict__.get(method, _NOTHING)
        self._replaced[method] = watched
        setattr(self._target, method, watched)

    def keep(self, hook: RemovableHandle) -> None:
        """Remove `hook` with the rest."""
        self._hooks.append(hook)

    def undo(self) -> None:
        """Give the methods back, unless somebody wrapped them again, and remove the hooks; idempotent."""
        for method, watched in self._replaced.items():
            if self._target.__dict__.get(method) is not watched:
                continue
            if self._earlier[method] is _NOTHING:
                delattr(self._target, method)
            else:
                setattr(self._target, method, self._earlier[method])
        self._replaced.clear()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
