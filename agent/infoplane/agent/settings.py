"""The agent's settings: what can be set, what it means and what it is when nobody sets it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from infoplane.agent.options import option, section_of

ENVIRONMENT_PREFIX: Final = "INFOPLANE_"
TRANSPORTS: Final = ("kafka", "file", "memory", "none")
PUBLISHERS: Final = ("thread", "sidecar")
_MAX_SEED: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where the brokers are."""

    bootstrap_servers: str = option("127.0.0.1:9092", "brokers, comma separated")
    topic_prefix: str = option("infoplane.", "prefix of every topic, one per tenant")
    api_version: str = option("2.1", "broker protocol spoken, major.minor; auto asks the broker")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """The file transport."""

    path: str = option("infoplane-{run}-{rank}.log", "file written; {run} and {rank} are replaced")


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Which steps and rows are sampled, and how rows are projected."""

    base_level: int = option(4, "every 2^level-th step is sampled", low=0, high=20)
    width: int = option(8, "sampled steps in a window", low=1, high=4096)
    rows_per_window: int = option(1024, "rows kept per window over all ranks", low=16, high=65536)
    key_seed: int = option(0, "seed of the row keys, equal in all runs", low=0, high=_MAX_SEED)
    projection_dim: int = option(64, "columns of the random projection", low=2, high=256)
    projection_seed: int = option(0, "seed of the projection", low=0, high=_MAX_SEED)
    novel_fraction: float = option(
        0.0,
        "share of the rows that are chosen by novelty, where a reference is known",
        low=0,
        high=0.5,
    )


@dataclass(frozen=True, slots=True)
class UnitsSettings:
    """How taps are grouped into records."""

    layers: int = option(8, "layers in one record", low=1, high=64)


@dataclass(frozen=True, slots=True)
class TapsSettings:
    """Where the model is tapped: auto (as the profile says), on, off or a regular expression over module names."""

    block: str = option("auto", "output of every block", pattern=True)
    act: str = option("auto", "output of the activation function of every block", pattern=True)
    attn: str = option("auto", "output of the attention of every block", pattern=True)
    mlp: str = option("auto", "output of the MLP of every block", pattern=True)
    norm: str = option("auto", "output of the norms inside the blocks", pattern=True)
    final_norm: str = option("auto", "output of the norm after the blocks", pattern=True)
    embed: str = option("auto", "input of the first block", pattern=True)
    logits: str = option("auto", "output of the head, on the sampled rows only", pattern=True)
    modules: str = option("off", "output of any other modules, by their names", pattern=True)
    budget_bytes: int = option(
        0, "bytes of the layers' taps per rank and sampled step; 0: as the profile says", low=0
    )
    collections: str = option(
        "", "groups of taps with a cadence of their own: name=regex over tap names@level;..."
    )


_SWITCH: Final = ("auto", "on", "off")


@dataclass(frozen=True, slots=True)
class ProbesSettings:
    """What is captured besides taps; auto: as the profile says."""

    attention: str = option("auto", "entropy of every attention head", choices=_SWITCH)
    router: str = option("auto", "load of every expert of a mixture", choices=_SWITCH)
    gradients: str = option("auto", "gradient norms of every block", choices=_SWITCH)
    head: str = option("auto", "geometry of the output head", choices=_SWITCH)
    weights: str = option("auto", "updates of the weights", choices=_SWITCH)
    joint: str = option("auto", "joint moments of up to 8 taps", choices=_SWITCH)
    runs: str = option("auto", "runs of 128 neighbouring tokens", choices=_SWITCH)
    activation: str = option(
        "auto", "inputs and outputs of the activation function", choices=_SWITCH
    )


@dataclass(frozen=True, slots=True)
class TokensSettings:
    """What is sent about tokens: the privacy switch."""

    mode: str = option(
        "buckets",
        "target ids as 64 hash buckets, as they are, or not at all",
        choices=("buckets", "ids", "none"),
    )
    labels: str = option(
        "auto",
        "labels belong to the same position (aligned) or to the one before (shifted)",
        choices=("auto", "aligned", "shifted"),
    )


@dataclass(frozen=True, slots=True)
class BuffersSettings:
    """Memory bounds."""

    slots: int = option(4, "sampled steps that may be on their way at once", low=1, high=64)
    queue_bytes: int = option(33554432, "bytes that may wait for the publisher", low=65536)


@dataclass(frozen=True, slots=True)
class GovernorSettings:
    """How much of the step time the agent may take; it samples fewer steps to stay below."""

    enabled: bool = option(True, "sample fewer steps when the agent costs too much")
    target_ratio: float = option(0.005, "share of step time aimed at", low=1e-5, high=0.5)
    hard_ratio: float = option(0.01, "share at which sampling stops at once", low=1e-5, high=1)
    level_high: int = option(12, "coarsest level chosen", low=0, high=20)
    calm_samples: int = option(20, "samples below half the target that lower the level", low=1)


@dataclass(frozen=True, slots=True)
class ScalarsSettings:
    """Scalars that the run logs."""

    delta: float = option(
        0.0, "relative change below which a number is not sent again in its window", low=0, high=1
    )
    framework: bool = option(True, "send DeepSpeed's monitor events too, such as its learning rate")


@dataclass(frozen=True, slots=True)
class ConfigSettings:
    """References and choice of taps that come through the topic `config`."""

    enabled: bool = option(False, "read the topic config")


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """Reward events."""

    bytes_per_s: int = option(1048576, "bytes of events a second and rank", low=1024)


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """What a controller may do to this run; equal on all ranks."""

    enabled: bool = option(False, "obey signed commands")
    public_keys: str = option("", "PEM files of public keys that may command, comma separated")
    actions: str = option(
        "learning_rate_factor,checkpoint,sampling_level,stop", "actions allowed, comma separated"
    )
    learning_rate_low: float = option(0.01, "smallest factor accepted", low=0, high=1)
    learning_rate_high: float = option(1.0, "largest factor accepted", low=1, high=10)
    sampling_level_high: int = option(12, "coarsest level accepted", low=0, high=20)
    checkpoint_dir: str = option("", "folder for DeepSpeed checkpoints; empty: none")
    every_steps: int = option(8, "steps between two looks at commands", low=1, high=65536)
    agree_timeout_s: float = option(60.0, "longest wait for all ranks after attach", low=1)
    wait_s: float = option(10.0, "longest wait for the other ranks at a boundary", low=0.1, high=60)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set about the agent."""

    enabled: bool = option(True, "off: no hooks, no thread, nothing")
    run: str | None = option(None, "name of the run; None: agreed among the ranks")
    attempt: int | None = option(None, "number that grows with restarts; None: agreed", low=0)
    transport: str = option("kafka", "how records leave", choices=TRANSPORTS)
    publisher: str = option(
        "thread", "who sends: a thread, or a process beside", choices=PUBLISHERS
    )
    kafka: KafkaSettings = dataclasses.field(default_factory=KafkaSettings)
    file: FileSettings = dataclasses.field(default_factory=FileSettings)
    sampling: SamplingSettings = dataclasses.field(default_factory=SamplingSettings)
    profile: str = option("standard", "how much is captured", choices=("light", "standard", "deep"))
    units: UnitsSettings = dataclasses.field(default_factory=UnitsSettings)
    taps: TapsSettings = dataclasses.field(default_factory=TapsSettings)
    probes: ProbesSettings = dataclasses.field(default_factory=ProbesSettings)
    tokens: TokensSettings = dataclasses.field(default_factory=TokensSettings)
    buffers: BuffersSettings = dataclasses.field(default_factory=BuffersSettings)
    governor: GovernorSettings = dataclasses.field(default_factory=GovernorSettings)
    scalars: ScalarsSettings = dataclasses.field(default_factory=ScalarsSettings)
    config: ConfigSettings = dataclasses.field(default_factory=ConfigSettings)
    events: EventsSettings = dataclasses.field(default_factory=EventsSettings)
    control: ControlSettings = dataclasses.field(default_factory=ControlSettings)
    heartbeat_s: float = option(5.0, "seconds between heartbeats", low=0.05, high=3600)
    exit_timeout_s: float = option(3.0, "longest wait at exit in seconds", low=0, high=60)

    @property
    def interval(self) -> int:
        """Steps between two sampled steps."""
        return 1 << self.sampling.base_level

    @property
    def span(self) -> int:
        """Steps in a window."""
        return self.sampling.width << self.sampling.base_level


def options(
    kind: type[Any] = Settings, prefix: str = ""
) -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield (dotted key, field) of every option, in order of declaration."""
    for field in dataclasses.fields(kind):
        nested = section_of(field)
        if nested is None:
            yield prefix + field.name, field
        else:
            yield from options(nested, f"{prefix}{field.name}.")


def environment_name(key: str) -> str:
    """Return the environment variable of a dotted key."""
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


def describe() -> list[tuple[str, str, Any, str]]:
    """Return (key, environment name, default, help) of every option: what the documentation prints."""
    return [
        (key, environment_name(key), field.default, field.metadata["help"])
        for key, field in options()
    ]
