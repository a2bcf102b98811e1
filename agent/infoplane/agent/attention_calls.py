"""Listening in on the attention functions of Hugging Face transformers, without a change to what they compute.

An attention layer asks `ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_function)` for the function to call, and
calls it with queries and keys after the rotation, (B, H, S, D) and (B, Hkv, K, D). While somebody listens, what it is
given back is a function that tells the arguments and then calls the real one; that covers every implementation, "eager"
among them, which is in no registry. DeepSpeed's Ulysses puts itself into the registry and exchanges sequence parts for
heads: the whole sequence is to be seen only inside, so there the inner function is replaced.

Source: transformers 5, modeling_utils.AttentionInterface; DeepSpeed 0.19, runtime/sequence_parallel/ulysses_sp.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

import torch
from torch import nn

_REGISTRY: Final = "ALL_ATTENTION_FUNCTIONS"
_NAMES: Final = ("query", "key", "value", "attention_mask")

Attend = Callable[..., Any]


class CallListener(Protocol):
    """Who wants to know of calls."""

    def note(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """`module` is about to attend; must not raise, and costs the training thread its time."""
        ...


class Intercept:
    """One replaceable callable, `holder.name`; replaced while anybody listens, by whatever session.

    Args:
        holder: object that has the callable.
        name: of the attribute.
        is_lookup: the callable returns the attention function instead of being it.
    """

    def __init__(self, holder: Any, name: str, *, is_lookup: bool) -> None:
        self._holder = holder
        self._name = name
        self._is_lookup = is_lookup
        self._listeners: list[CallListener] = []
        self._inherited = True
        self._original: Attend | None = None
        self._ours: Attend | None = None

    def add(self, listener: CallListener) -> None:
        """Tell `listener` of every call from now on; nothing happens if it is told already."""
        if listener not in self._listeners:
            self._listeners.append(listener)
        if self._ours is None:
            self._inherited = self._name not in vars(self._holder)
            self._original = getattr(self._holder, self._name)
            self._ours = self._look_up if self._is_lookup else partial(self._attend, self._original)
            setattr(self._holder, self._name, self._ours)

    def remove(self, listener: CallListener) -> None:
        """Tell `listener` nothing more; the last one puts the callable back that was there before."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if self._listeners or self._ours is None:
            return
        # Somebody may have put a function of their own over ours: theirs stays, and ours passes calls on.
        if vars(self._holder).get(self._name) == self._ours:
            if self._inherited:
                delattr(self._holder, self._name)
            else:
                setattr(self._holder, self._name, self._original)
        self._ours = None

    def _look_up(self, *args: Any, **kwargs: Any) -> Attend:
        assert self._original is not None
        found: Attend = self._original(*args, **kwargs)
        if torch.compiler.is_compiling() or not self._listeners:
            return found
        return partial(self._attend, found)

    def _attend(self, function: Attend, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        for listener in tuple(self._listeners):
            listener.note(module, args, kwargs)
        return function(module, *args, **kwargs)


_intercepts: dict[int, Intercept] = {}


def intercept(holder: Any, name: str, *, is_lookup: bool) -> Intercept:
    """Return the one intercept of `holder.name` in this process: sessions that overlap share it."""
    return _intercepts.setdefault(id(holder), Intercept(holder, name, is_lookup=is_lookup))


def registry_of(module: nn.Module) -> Any | None:
    """Return the registry that the module's forward asks for its attention function; None if it asks none."""
    try:
        forward = inspect.unwrap(type(module).forward)
    except ValueError:
        return None
    code, known = getattr(forward, "__code__", None), getattr(forward, "__globals__", {})
    return known.get(_REGISTRY) if code is not None and _REGISTRY in code.co_names else None


def ulysses_of(registry: Any, implementation: str) -> Any | None:
    """Return DeepSpeed's Ulysses object if it has taken the place of `implementation`, else None."""
    try:
        function = registry[implementation]
    except KeyError:
        return None
    for cell in getattr(function, "__closure__", None) or ():
        try:
            found = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if type(found).__name__ == "UlyssesSPAttentionHF":
            return found
    return None


def named_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, the module left out."""
    return {**dict(zip(_NAMES, args, strict=False)), **kwargs}
