"""attach(): hangs the agent into a model; Monitor: what the training script holds."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import torch
from torch.optim import Optimizer

from infoplane.agent.assembly import build
from infoplane.agent.control import CommandSource, Means
from infoplane.agent.frameworks import Adapter, Unsupported, adapt
from infoplane.agent.null_pass import null_log_probs
from infoplane.agent.outlet import MemoryOutlet
from infoplane.agent.rewards import Observing, RewardLog
from infoplane.agent.session import Announce, Session
from infoplane.agent.settings import Settings
from infoplane.agent.sources import SourceError, load
from infoplane.agent.transports import Outgoing, TransportFactory
from infoplane.agent.undisturbed import Batch
from infoplane.wire import ConfigurationError

_log = logging.getLogger("infoplane.agent")


class Monitor(Observing):
    """Handle of one attached model. Every method is safe to call at any time and does nothing when disabled.

    Attributes:
        settings: what is in force; None when disabled.
    """

    def __init__(
        self, session: Session | None = None, outlet: TransportFactory | None = None
    ) -> None:
        self._session = session
        self._outlet = outlet
        self.settings: Settings | None = session.parts.envelope.settings if session else None

    @property
    def _rewards(self) -> RewardLog | None:
        return self._session.rewards if self._session else None

    @property
    def enabled(self) -> bool:
        """Whether anything is watched."""
        return self._session is not None

    @property
    def run(self) -> str:
        """Name of the run; empty when disabled."""
        return self._session.parts.envelope.identity.run if self._session else ""

    @property
    def attempt(self) -> int:
        """Number of the attempt; 0 when disabled."""
        return self._session.parts.envelope.identity.attempt if self._session else 0

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units that this rank sends."""
        return tuple(self._session.parts.envelope.roles) if self._session else ()

    @property
    def should_stop(self) -> bool:
        """Whether a signed command asked the training loop to end; true on all ranks from the same step on."""
        control = self._session.control if self._session else None
        return control.should_stop if control else False

    @property
    def learning_rate_factor(self) -> float:
        """Factor on the learning rate that is in force by command; 1.0 without one."""
        control = self._session.control if self._session else None
        return control.learning_rate_factor if control else 1.0

    @property
    def messages(self) -> list[Outgoing]:
        """What was sent so far, with transport = memory only; for tests."""
        return self._outlet.messages if isinstance(self._outlet, MemoryOutlet) else []

    def log(self, values: Mapping[str, Any] | None = None, /, **scalars: Any) -> None:
        """Publish numbers: floats, or tensors of one element, which are not read before the next copy.

        They belong to the step of the last training forward, and travel with the next sampled step
        that ends: call this before engine.step() to have a value in its own step's record. About 1
        us per value.
        """
        if self._session is not None:
            self._session.scalars.add(self._session.scalar_step, {**(values or {}), **scalars})

    def anchor(
        self, batch: Batch, *, ids: Sequence[int] | None = None, every_windows: int = 8
    ) -> None:
        """Run a fixed batch through the model now and then, so that drift of the same inputs can be seen.

        Opt-in, and the one thing of the agent besides `null_pass` that may be a collective: under ZeRO-3 and tensor
        parallelism every rank calls this with a batch of the same shape before the same step, and closes at the same
        step. The pass runs at the end of every step that 2^level divides, the finest level whose steps are
        `every_windows` windows apart or more: in eval mode, without gradients, with random states kept. Never raises.

        Args:
            batch: keyword arguments, arguments or the only argument of the model, or a function that gets the model
                and calls it once, for instance under autocast. Tensors are on the model's device.
            ids: one number per sample, part of the rows' keys; None: 0, 1, 2, ...
            every_windows: windows between two passes, at least.
        """
        if self._session is None:
            return
        try:
            self._session.add_anchors(batch, ids, every_windows)
        except Exception:  # noqa: BLE001 - training goes on
            _log.exception("infoplane: no anchors")

    def null_pass(self, batch: Batch, labels: torch.Tensor) -> torch.Tensor | None:
        """Return log p of `labels` under inputs without their context, float32 (B, S) in nats; 0 where none counts.

        For `observe_rollouts(null_log_probs=...)`. An extra forward in eval mode, without gradients and with random
        states kept; a collective under ZeRO-3 and tensor parallelism: call it on all ranks. None when disabled, or when
        it failed. The conventions of `labels` are those of Hugging Face: at the place of their token, -100 for none.
        """
        if self._session is None:
            return None
        try:
            return null_log_probs(self._session.parts.adapter.root, batch, labels)
        except Exception:  # noqa: BLE001 - training goes on
            _log.exception("infoplane: the null pass failed")
            return None

    def step(self) -> None:
        """Say that an optimizer step is over: plain loops only, ignored where the framework knows."""
        if self._session is not None:
            self._session.parts.adapter.advance()

    def pause(self) -> None:
        """Sample nothing from the next step on; windows meanwhile are incomplete. Events go on."""
        if self._session is not None:
            self._session.parts.recorder.is_paused = True

    def resume(self) -> None:
        """Sample again from the next step on."""
        if self._session is not None:
            self._session.parts.recorder.is_paused = False

    def detach(self) -> None:
        """Remove every hook and wrapper from the model and engine; the publisher goes on until `close`."""
        if self._session is not None:
            self._session.detach()

    def close(self) -> None:
        """Detach, send what is left and a goodbye, and end the thread; at most exit_timeout_s. Idempotent."""
        if self._session is not None:
            _attached.pop(id(self._session.parts.adapter.root), None)
            self._session.close()

    def stats(self) -> dict[str, float]:
        """Return running totals: `name` or `name{reason}` -> value; times in seconds."""
        if self._session is None:
            return {}
        found = self._session.parts.counters.snapshot()
        return {f"{name}{{{reason}}}" if reason else name: v for (name, reason), v in found.items()}

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# Values are weak: a model and its monitor live as long as the user or the hooks hold them.
_attached: Final[weakref.WeakValueDictionary[int, Monitor]] = weakref.WeakValueDictionary()


def attach(
    target: Any,
    *,
    config: Mapping[str, Any] | None = None,
    run: str | None = None,
    announce: Announce | None = None,
    factory: TransportFactory | None = None,
    first_step: int = 0,
    optimizers: Sequence[Optimizer] = (),
    on_checkpoint: Callable[[int], None] | None = None,
    commands: CommandSource | None = None,
    **settings: Any,
) -> Monitor:
    """Watch a DeepSpeed engine or an nn.Module, and return the handle; a second call returns the same one.

    Call it after deepspeed.initialize and before the first step, on every rank. It takes no part
    in any collective. Memory: `buffers.slots` times about 20 KB per tap.

    Args:
        target: the engine or module.
        config: settings, nested or with dotted keys; they win over environment and DeepSpeed
            config.
        run: name of the run, the same as settings key `run`.
        announce: step -> the plan's values at that step, such as {"learning_rate": 1e-3}.
        factory: builds the transport instead of the one that the settings name.
        first_step: step to begin at, for plain modules that resume.
        optimizers: whose learning rate a signed command may scale; a DeepSpeed engine knows its own.
        on_checkpoint: writes a checkpoint after so many finished steps, called on all ranks at the
            same step when a signed command asks for it; a DeepSpeed engine needs none, only
            `control.checkpoint_dir`.
        commands: where rank 0 reads commands, instead of Kafka; for tests.
        settings: top-level settings as keywords, e.g. transport="memory".

    Raises:
        ConfigurationError: `config`, `run` or `settings` are wrong. Nothing else raises: mistakes
            in the
            environment or the DeepSpeed config, and every other failure, are logged, and the
            handle is disabled.
    """
    arguments = {**(config or {}), **settings} | ({"run": run} if run is not None else {})
    try:
        adapter = adapt(target, first_step)
        known = _attached.get(id(adapter.root))
        if known is not None and known.enabled:
            return known
        loaded = load(arguments, os.environ, adapter.section())
        if not loaded.enabled:
            return Monitor()
        means = Means(tuple(optimizers), on_checkpoint)
        return _start(adapter, loaded, announce, factory, means, commands)
    except SourceError as error:
        _log.error("infoplane: disabled, wrong setting outside the code: %s", error)
    except ConfigurationError:
        raise
    except Unsupported as error:
        _log.error("infoplane: disabled: %s", error)
    except Exception:  # noqa: BLE001 - training goes on
        _log.exception("infoplane: disabled, attach failed")
    return Monitor()


def _start(
    adapter: Adapter,
    settings: Settings,
    announce: Announce | None,
    factory: TransportFactory | None,
    means: Means,
    commands: CommandSource | None,
) -> Monitor:
    parts, default_factory = build(adapter, settings, announce, means, commands)
    outlet = factory or default_factory
    session = Session(parts, outlet)
    try:
        session.start()
    except Exception:
        session.detach()
        raise
    monitor = Monitor(session, outlet)
    _attached[id(adapter.root)] = monitor
    return monitor
