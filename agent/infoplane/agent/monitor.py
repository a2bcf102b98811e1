"""attach(): hangs the agent into a model; Monitor: what the training script holds."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from infoplane.agent.assembly import build
from infoplane.agent.frameworks import Adapter, Unsupported, adapt
from infoplane.agent.outlet import MemoryOutlet
from infoplane.agent.session import Announce, Session
from infoplane.agent.settings import Settings
from infoplane.agent.sources import SourceError, load
from infoplane.agent.transports import Outgoing, TransportFactory
from infoplane.wire import ConfigurationError

_log = logging.getLogger("infoplane.agent")


class Monitor:
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
        return self._session.parts.envelope.units if self._session else ()

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

    def step(self) -> None:
        """Say that an optimizer step is over: plain loops only, ignored where the framework knows."""
        if self._session is not None:
            self._session.parts.adapter.advance()

    def pause(self) -> None:
        """Sample nothing from the next step on; windows meanwhile are incomplete."""
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
        return _start(adapter, loaded, announce, factory)
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
) -> Monitor:
    parts, default_factory = build(adapter, settings, announce)
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
