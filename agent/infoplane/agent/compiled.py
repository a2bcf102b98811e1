"""Taps in models that torch.compile compiles: no graph break, and two graphs, one with taps and one without.

Hooks are traced into the graph, so they cannot come and go: once anything is about to be compiled, all taps get hooks
that stay. Each asks one Python bool, on which the compiled code has a guard: a sampled micro-batch runs the graph with
taps, every other one the graph without. What the graph calls is one custom operator, opaque to the compiler, that hands
the tensor to the same code that eager models run. It takes the tap's number from a tensor, as a number in the code
would make a graph for every layer.

A custom operator has to get its input materialised, which inductor might otherwise have fused away: in inductor the
sampled steps' losses may differ in the last bits from those without taps. Eager and aot_eager have no such difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch._dynamo.callback import CallbackArgs, callback_handler
from torch.utils.hooks import RemovableHandle

from infoplane.agent.counters import Counters
from infoplane.agent.hooks import HeadHook, Inert, InputHook, Listener, OutputHook, TapHooks
from infoplane.agent.outputs import find_float

Receive = Callable[[torch.Tensor], None]
_receivers: Final[dict[int, Receive]] = {}


@torch.library.custom_op("infoplane::tap", mutates_args=("place",))
def _tap(place: torch.Tensor, value: torch.Tensor) -> None:
    """Hand `value` to the receiver number `place[0]`, int64 (2,) on the CPU; `place[1]` counts the calls."""
    place[1] += 1
    receive = _receivers.get(int(place[0]))
    if receive is not None:
        receive(value)


@_tap.register_fake
def _(place: torch.Tensor, value: torch.Tensor) -> None:
    """Do nothing: the operator returns nothing."""


class Compilable(Listener, Protocol):
    """The recorder, as far as compilation concerns it."""

    taps: TapHooks
    probe_in_forward: bool
    at_first: Callable[[], None] | None


class StayingHook:
    """A forward hook that stays, and that torch.compile traces."""

    def __init__(self, listener: Listener, receive: Receive, *, is_input: bool = False) -> None:
        number = max(_receivers, default=-1) + 1
        _receivers[number] = receive
        self.listener = listener
        self.is_input = is_input
        self.place = torch.tensor([number, 0], dtype=torch.int64)
        self._number = number

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Pass the output, or for an input hook the arguments, on if the micro-batch is sampled."""
        if self.listener.is_open:
            # An exception here would be one of the user's model: nothing may raise.
            value = find_float((args, output) if self.is_input else output)
            if value is not None:
                torch.ops.infoplane.tap(self.place, value.detach())

    def close(self) -> None:
        """Forget the receiver; a graph that still calls it gets nothing."""
        _receivers.pop(self._number, None)

    def __deepcopy__(self, _: dict[int, Any]) -> Inert:
        return Inert()

    def __reduce__(self) -> tuple[type[Inert], tuple[()]]:
        return Inert, ()


class StayingHooks:
    """The hooks of all taps of a compiled model."""

    def __init__(self, listener: Listener, places: list[tuple[nn.Module, Any]]) -> None:
        self._hooks: list[StayingHook] = []
        self._handles: list[RemovableHandle] = []
        for module, hook in places:
            self._add(listener, module, hook)

    def _add(self, listener: Listener, module: nn.Module, hook: Any) -> None:
        """Hang in the twin of an eager hook; a probe's function cannot be traced, so probes are left out."""
        if not isinstance(hook, OutputHook | InputHook | HeadHook):
            return
        is_input = isinstance(hook, InputHook)
        receive: Receive = (
            listener.logits
            if isinstance(hook, HeadHook)
            else lambda value: listener.fire(hook.tap, value)
        )
        staying = StayingHook(listener, _sheltered(listener, receive), is_input=is_input)
        self._hooks.append(staying)
        self._handles.append(
            module.register_forward_pre_hook(staying, with_kwargs=True)
            if is_input
            else module.register_forward_hook(staying)
        )

    def remove(self) -> None:
        """Take the hooks out. What is compiled already keeps its calls, and they do nothing."""
        for handle in self._handles:
            handle.remove()
        for hook in self._hooks:
            hook.close()


def _sheltered(listener: Listener, receive: Receive) -> Receive:
    def run(value: torch.Tensor) -> None:
        try:
            receive(value)
        except Exception as error:  # noqa: BLE001 - training goes on
            listener.failed("compiled", error)

    return run


def is_compiled(root: nn.Module) -> bool:
    """Return whether `root` or a module in it has been given to torch.compile."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None
        or type(module).__name__ == "OptimizedModule"
        for module in root.modules()
    )


class CallWrapper:
    """Around the compiled call of a root: what is inside is traced, so the forward is entered and left out here."""

    def __init__(self, root: nn.Module, listener: Listener) -> None:
        self._root = root
        self._listener = listener
        self._original: Any = root._compiled_call_impl
        root._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        if not (self._root.training and torch.is_grad_enabled()):
            self._listener.is_open = False
            return self._original(*args, **kwargs)
        try:
            self._listener.enter(self._root, args, kwargs)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._listener.failed("tokens", error)
        self._listener.is_entered = True
        try:
            output = self._original(*args, **kwargs)
        finally:
            self._listener.is_entered = False
        if self._listener.is_open:
            try:
                self._listener.leave(output)
            except Exception as error:  # noqa: BLE001 - training goes on
                self._listener.failed("tokens", error)
        return output

    def remove(self) -> None:
        """Put the compiled call back."""
        if self._root._compiled_call_impl is self:
            self._root._compiled_call_impl = self._original


class CompileWatch:
    """Notices that torch.compile is at work, and lets the taps stay in the model from then on.

    Args:
        root: the model.
        recorder: whose hooks are to stay.
        counters: gets `compiled` = 1.
        at_notice: called when hooks begin to stay.
    """

    def __init__(
        self,
        root: nn.Module,
        recorder: Compilable,
        counters: Counters,
        at_notice: Callable[[], None],
    ) -> None:
        self._at_notice = at_notice
        self._root = root
        self._recorder = recorder
        self._counters = counters
        self._hooks: StayingHooks | None = None
        self._call: CallWrapper | None = None

    def start(self, *, is_compiled_outside: bool) -> None:
        """Look now, and whenever something is compiled; a framework may call `notice` itself before that."""
        if is_compiled_outside or is_compiled(self._root):
            self.notice()
        callback_handler.register_start_callback(self._at_start)
        self._recorder.at_first = self._look

    def _look(self) -> None:
        # Blocks may have been given to torch.compile since; hooks must be there before the first of them runs.
        if is_compiled(self._root):
            self.notice()

    def notice(self) -> None:
        """Let the hooks stay, and enter the model outside of what is compiled; idempotent, never raises."""
        try:
            self._stay()
        except Exception as error:  # noqa: BLE001 - training goes on
            self._recorder.failed("compiled", error)

    def _stay(self) -> None:
        if self._hooks is None:
            self._hooks = StayingHooks(self._recorder, self._recorder.taps.fix())
            self._recorder.probe_in_forward = False
            self._counters.add("compiled")
            self._at_notice()
        if self._call is None and self._root._compiled_call_impl is not None:
            self._call = CallWrapper(self._root, self._recorder)

    def close(self) -> None:
        """Take everything out."""
        if self._at_start in callback_handler.start_callbacks:
            callback_handler.remove_start_callback(self._at_start)
        if self._hooks is not None:
            self._hooks.remove()
        if self._call is not None:
            self._call.remove()

    def _at_start(self, _: CallbackArgs) -> None:
        self.notice()
