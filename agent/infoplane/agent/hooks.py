"""The callables that are hung into the model. One stays in the root; the others come and go.

A copy or a pickle of a hooked model (an EMA copy, torch.save of a whole module) gets hooks that do nothing: the
original's agent has locks and a thread, and a copy is not the model that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from infoplane.agent.probes import Place
from infoplane.agent.probes.base import Function
from infoplane.agent.taps import Tap


class Listener(Protocol):
    """What hooks call.

    Attributes:
        is_open: a sampled micro-batch runs.
        is_entered: a forward pass was announced from outside of a compiled model.
    """

    is_open: bool
    is_entered: bool

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A forward pass of the whole model begins."""
        ...

    def leave(self, output: Any) -> None:
        """A forward pass of the whole model is over."""
        ...

    def logits(self, output: Any) -> None:
        """The head has computed its output."""
        ...

    def fire(self, tap: Tap, value: Any) -> None:
        """A tapped module has run."""
        ...

    def probe(
        self, name: str, function: Function, module: nn.Module, args: Any, output: Any
    ) -> None:
        """A module that a probe watches has run, or is about to."""
        ...

    def failed(self, tap: str, error: Exception) -> None:
        """One of the above has raised."""
        ...


class Inert:
    """What a copied hook turns into: does nothing."""

    def __call__(self, *_: Any) -> None:
        """Do nothing."""


class _Hook:
    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __deepcopy__(self, _: dict[int, Any]) -> Inert:
        return Inert()

    def __reduce__(self) -> tuple[type[Inert], tuple[()]]:
        return Inert, ()


class OutputHook(_Hook):
    """Forward hook of a tap on a module's output."""

    __slots__ = ("tap",)

    def __init__(self, listener: Listener, tap: Tap) -> None:
        super().__init__(listener)
        self.tap = tap

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Pass the output on if the micro-batch is sampled."""
        if self._listener.is_open:
            try:
                self._listener.fire(self.tap, output)
            except Exception as error:  # noqa: BLE001 - training goes on
                self._listener.failed(self.tap.name, error)


class InputHook(_Hook):
    """Forward pre-hook, with keyword arguments, of a tap on a module's input."""

    __slots__ = ("tap",)

    def __init__(self, listener: Listener, tap: Tap) -> None:
        super().__init__(listener)
        self.tap = tap

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Pass the arguments on if the micro-batch is sampled."""
        if self._listener.is_open:
            try:
                self._listener.fire(self.tap, (args, kwargs))
            except Exception as error:  # noqa: BLE001 - training goes on
                self._listener.failed(self.tap.name, error)


class HeadHook(_Hook):
    """Forward hook of the module that computes the logits."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Pass the logits on if the micro-batch is sampled."""
        if self._listener.is_open:
            try:
                self._listener.logits(output)
            except Exception as error:  # noqa: BLE001 - training goes on
                self._listener.failed("tokens", error)


class ProbeHook(_Hook):
    """Forward hook of a probe."""

    __slots__ = ("_name", "_place")

    def __init__(self, listener: Listener, name: str, place: Place) -> None:
        super().__init__(listener)
        self._name = name
        self._place = place

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Pass the output on if the micro-batch is sampled."""
        if self._listener.is_open or self._place.is_late:
            try:
                self._listener.probe(self._name, self._place.function, module, args, output)
            except Exception as error:  # noqa: BLE001 - training goes on
                self._listener.failed(self._name, error)


class ProbeInputHook(ProbeHook):
    """Forward pre-hook, with keyword arguments, of a probe."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Pass the arguments on, `output` being the keyword arguments here."""
        super().__call__(module, (args, output), None)


class TapHooks:
    """The hooks of all taps, in the model only while a sampled micro-batch runs.

    A hook that does nothing still costs about 1 to 2 us in torch's dispatch, for every module and forward; hanging
    one in and out costs about 5 us, once per sampled step. It also keeps hooks out of what torch.compile traces.

    Attributes:
        is_fixed: the places have other hooks, which stay: infoplane.agent.compiled.
    """

    def __init__(self) -> None:
        self._places: list[tuple[nn.Module, Any]] = []
        self._handles: list[RemovableHandle] = []
        self.is_fixed = False

    def __bool__(self) -> bool:
        """Whether there is any place."""
        return bool(self._places)

    def add(self, module: nn.Module, hook: _Hook) -> None:
        """Add a place; an input hook goes before the module, any other after it."""
        self._places.append((module, hook))

    def fix(self) -> list[tuple[nn.Module, Any]]:
        """Take all hooks out for good and return the places: other hooks stay there from now on."""
        self.disarm()
        self.is_fixed = True
        return self._places

    def arm(self) -> None:
        """Hang all hooks in; nothing happens if they are."""
        if self._handles or self.is_fixed:
            return
        for module, hook in self._places:
            if isinstance(hook, InputHook | ProbeInputHook):
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
            else:
                handle = module.register_forward_hook(hook)
            self._handles.append(handle)

    def disarm(self) -> None:
        """Take all hooks out; nothing happens if they are."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class EnterHook(_Hook):
    """Forward pre-hook, with keyword arguments, of the root."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Announce the forward pass if the model trains."""
        # First, so that torch.compile traces a plain return and breaks no graph.
        if torch.compiler.is_compiling() or self._listener.is_entered:
            return
        # Trainers of policies generate in training mode, but without gradients.
        if not (module.training and torch.is_grad_enabled()):
            # An exception may have ended the last training forward before it could close.
            self._listener.is_open = False
            return
        try:
            self._listener.enter(module, args, kwargs)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._listener.failed("tokens", error)


class LeaveHook(_Hook):
    """Forward hook of the root."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """End the capture."""
        if torch.compiler.is_compiling():
            return
        if self._listener.is_open:
            try:
                self._listener.leave(output)
            except Exception as error:  # noqa: BLE001 - training goes on
                self._listener.failed("tokens", error)
