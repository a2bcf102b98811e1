"""attach(): hangs the agent into a model; Monitor: what the training script holds."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from torch.optim import Optimizer

from infoplane.agent.assembly import build
from infoplane.agent.control import CommandSource, Means
from infoplane.agent.frameworks import Adapter, Unsupported, adapt
from infoplane.agent.outlet import MemoryOutlet
from infoplane.agent.rewards import PREFERENCES, ROLLOUTS, SCORES, Contents, Features, Numbers
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

    def observe_preferences(
        self,
        prompts: Contents,
        chosen: Contents,
        rejected: Contents,
        *,
        rewards_chosen: Numbers | None = None,
        rewards_rejected: Numbers | None = None,
        features_chosen: Features | None = None,
        features_rejected: Features | None = None,
        raters: Contents | None = None,
        weights: Numbers | None = None,
        stream: str = "preferences",
        step: int | None = None,
    ) -> None:
        """Publish m judgements "of these two responses, the first is better": training a reward model, or DPO.

        The same judgement seen again, in another epoch or on another rank, has the same id and counts once.
        Everything is copied before this returns; a tensor on a device is copied there and read later. All calls of a
        stream have the same columns. Pausing does not stop events. A wrong call is logged once per stream and
        counted, never raised. Cost: docs/rewards.md.

            monitor.observe_preferences(batch["prompt"], batch["chosen"], batch["rejected"],
                                        rewards_chosen=good, rewards_rejected=bad)

        Args:
            prompts: m contents: text, bytes, an int of your own, or token ids (a list, or a 1-D array or tensor),
                one per event; an array or tensor of two dimensions has the token ids of one event per row. Columns
                `prompt`, `chosen`, `rejected` are uint64 hashes (m,).
            chosen: the better responses.
            rejected: the worse ones.
            rewards_chosen: the reward model's scores, (m,); column `reward_chosen`, float64.
            rewards_rejected: likewise; column `reward_rejected`.
            features_chosen: pooled embeddings (m, d); column `features_chosen`, float32 (m, k), projected to k =
                sampling.projection_dim columns where wider.
            features_rejected: likewise; column `features_rejected`.
            raters: who judged, m contents or None each; column `rater`, uint64 hashes, 0 = not told.
            weights: how much each counts, (m,); column `weight`, float64, 1 by default.
            stream: name of the source; its windows are unit `events/<stream>`.
            step: step that the events belong to; the step of the last training forward by default.
        """
        if self._session is not None:
            self._session.rewards.observe(
                PREFERENCES,
                stream,
                step,
                contents={
                    "prompt": prompts,
                    "chosen": chosen,
                    "rejected": rejected,
                    "rater": raters,
                },
                numbers={
                    "weight": weights,
                    "reward_chosen": rewards_chosen,
                    "reward_rejected": rewards_rejected,
                },
                features={
                    "features_chosen": features_chosen,
                    "features_rejected": features_rejected,
                },
            )

    def observe_rollouts(
        self,
        prompts: Contents,
        responses: Contents,
        *,
        rewards: Numbers | None = None,
        entropies: Numbers | None = None,
        log_probs: Numbers | None = None,
        reference_log_probs: Numbers | None = None,
        tokens: Numbers | None = None,
        advantages: Numbers | None = None,
        features: Features | None = None,
        stream: str = "rollouts",
        step: int | None = None,
    ) -> None:
        """Publish m responses that the policy sampled: PPO, GRPO and the like. As `observe_preferences` otherwise.

        Every call makes events of its own: the id holds step, rank and place in the call. Call it on one rank of
        those that hold the same rollouts.

            monitor.observe_rollouts(prompts, responses, rewards=rewards, log_probs=log_probs,
                                     reference_log_probs=reference, tokens=mask.sum(1))

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,). Repeat a prompt for each of its responses.
            responses: m contents; column `response`.
            rewards: column `reward`; all numbers are (m,) and float64.
            entropies: mean entropy of the policy over the response's tokens, nats; column `entropy`.
            log_probs: sum of the policy's log-probabilities over the response's tokens, nats; column `log_prob`.
            reference_log_probs: the same of the reference policy; column `reference_log_prob`.
            tokens: tokens of the response; column `tokens`.
            advantages: column `advantage`.
            features: (m, d); column `features`, float32 (m, k), projected where wider.
            stream: name of the source.
            step: step that the events belong to.
        """
        if self._session is not None:
            self._session.rewards.observe(
                ROLLOUTS,
                stream,
                step,
                contents={"prompt": prompts, "response": responses},
                numbers={
                    "reward": rewards,
                    "entropy": entropies,
                    "log_prob": log_probs,
                    "reference_log_prob": reference_log_probs,
                    "tokens": tokens,
                    "advantage": advantages,
                },
                features={"features": features},
            )

    def observe_scores(
        self,
        prompts: Contents,
        responses: Contents,
        *,
        rewards: Numbers,
        features: Features | None = None,
        stream: str = "scores",
        step: int | None = None,
    ) -> None:
        """Publish m scores that a reward model or a verifier gave. As `observe_rollouts` otherwise.

            monitor.observe_scores(prompts, responses, rewards=reward_model(batch))

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,).
            responses: m contents; column `response`.
            rewards: (m,); column `reward`, float64.
            features: (m, d); column `features`, float32 (m, k), projected where wider.
            stream: name of the source: one per reward function.
            step: step that the events belong to.
        """
        if self._session is not None:
            self._session.rewards.observe(
                SCORES,
                stream,
                step,
                contents={"prompt": prompts, "response": responses},
                numbers={"reward": rewards},
                features={"features": features},
            )

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
