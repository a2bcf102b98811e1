"""A factor on the learning rate, inside the optimizer's step only.

A hook before `step` multiplies the rate of every group, one after it puts the very same value back.
So schedulers, which read and write `group["lr"]` between steps, never see the factor. There is no
hook until the first command, and none again after a factor of 1 was seen to be in force.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

_MAX_SEEN: Final = 256


class RateFactor:
    """The factor of one rank's optimizers. All methods belong to the training thread.

    It outlives the end of control and detach: the other ranks keep their factor, and ranks with
    different rates would be worse than any rate.

    Attributes:
        factor: in force.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.factor = 1.0
        self._optimizers = list({id(one): one for one in optimizers}.values())
        self._handles: list[RemovableHandle] = []
        self._saved: list[tuple[dict[str, Any], Any]] = []
        self._seen: list[tuple[float, float]] | None = None  # None: nobody asks
        self._error: Exception | None = None

    def set(self, factor: float) -> None:
        """Put `factor` in force, and note what the next step sees of it."""
        self._install()
        self.factor = factor
        self._seen, self._error = [], None

    def settle(self) -> list[tuple[float, float]]:
        """At a boundary: return (rate before, rate inside the step) of each group since `set`, once.

        Raises:
            RuntimeError: the step saw something other than rate times factor.
        """
        self._restore()  # only if a step raised
        seen = self._seen
        error, self._error = self._error, None
        if error is not None:
            self._seen = None
            raise RuntimeError(f"learning rate not changed: {error!r}")
        if not seen:
            return []
        self._seen = None
        if self.factor == 1.0:
            self._remove()
        for before, inside in seen:
            if not math.isclose(inside, before * self.factor, rel_tol=1e-6, abs_tol=0.0):
                raise RuntimeError(f"rate {before:g} became {inside:g}, not x {self.factor:g}")
        return seen

    def _install(self) -> None:
        if self._handles:
            return
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before))
            self._handles.append(optimizer.register_step_post_hook(self._after))

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    # ---------------------------------------------------------------- hooks

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        try:
            self._restore()  # a step that raised left its factor behind
            with torch.no_grad():
                self._scale(optimizer)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._restore()
            self._error = error

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._restore()

    def _scale(self, optimizer: Optimizer) -> None:
        """Multiply the rates; groups that share one tensor (torch's default) share one factor."""
        scaled: set[int] = set()
        for group in optimizer.param_groups:
            rate = group["lr"]
            is_tensor = isinstance(rate, torch.Tensor)
            # A tensor is changed in place: captured or compiled steps hold on to its memory.
            before = rate.clone() if is_tensor else rate
            if self.factor != 1.0 and not (is_tensor and id(rate) in scaled):
                self._saved.append((group, before))
                if is_tensor:
                    scaled.add(id(rate))
                    rate.mul_(self.factor)
                else:
                    group["lr"] = rate * self.factor
            elif is_tensor and self.factor != 1.0:
                before = next(old for other, old in self._saved if other["lr"] is rate)
            self._note(before, group["lr"])

    def _note(self, before: Any, inside: Any) -> None:
        # float() of a tensor on a device waits for it: in the first step after a command only.
        if self._seen is not None and len(self._seen) < _MAX_SEEN:
            self._seen.append((float(before), float(inside)))

    def _restore(self) -> None:
        while self._saved:
            group, before = self._saved.pop()
            if isinstance(before, torch.Tensor) and isinstance(group["lr"], torch.Tensor):
                with torch.no_grad():
                    group["lr"].copy_(before)
            else:
                group["lr"] = before
