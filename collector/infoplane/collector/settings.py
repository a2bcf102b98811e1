"""Settings of everything behind the broker: file, environment and flags, one model.

Precedence: flags (arguments of the constructor), environment `INFOPLANE_SECTION__KEY`, YAML file named by
`INFOPLANE_CONFIG`, defaults.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from infoplane.wire import ConfigurationError
from infoplane.wire.topics import DEFAULT_PREFIX, Names

PREFIX = "INFOPLANE_"
Seconds = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSection(_Section):
    """Where the broker is. Shared with the agent."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port list of the brokers")
    topic_prefix: str = Field(DEFAULT_PREFIX, description="prefix of every topic, one per tenant")
    api_version: str = Field("2.1", description="oldest broker protocol to speak")
    group: str = Field("infoplane", description="prefix of the consumer groups")
    session_timeout_s: float = Field(
        10.0,
        ge=1,
        le=300,
        description="time until the partitions of a killed process are taken over",
    )

    @property
    def names(self) -> Names:
        """Full topic names."""
        return Names(self.topic_prefix)


class AssembleSection(_Section):
    """How long ASSEMBLE waits, on the log's clock."""

    deadline_s: Seconds = Field(30.0, description="wait for slow ranks after one moved on")
    open_limit_s: Seconds = Field(900.0, description="longest time that a window stays open")
    lateness_s: Seconds = Field(
        120.0, description="time after the final pane in which corrections count"
    )
    late_delay_s: Seconds = Field(
        5.0, description="time that late records are gathered for one late pane"
    )
    event_deadline_s: Seconds = Field(
        5.0, description="wait for slow ranks' events after one of a later window"
    )
    event_idle_s: Seconds = Field(
        15.0, description="silence of a stream after which its window closes"
    )
    event_batch: int = Field(
        1024, ge=16, le=8192, description="events in a window where no steps are known"
    )


class EstimateSection(_Section):
    """How ESTIMATE joins and computes."""

    join_deadline_s: Seconds = Field(
        60.0, description="wait for the other units after the first final pane"
    )
    retain_windows: int = Field(
        4, ge=1, le=64, description="closed windows that late panes may still correct"
    )
    retain_s: Seconds = Field(600.0, description="longest time that a closed window is retained")
    horizon_events: int = Field(
        50_000, ge=100, description="distinct reward events kept a stream, newest windows first"
    )
    device: str = Field("auto", description="auto, cpu or cuda[:n]")
    off: tuple[str, ...] = Field((), description="metrics not to compute")
    on: tuple[str, ...] = Field((), description="metrics of the tier `opt` to compute")
    cadence: dict[str, int] = Field(
        default_factory=dict, description="metric name -> compute in every n-th window"
    )


class ExporterSection(_Section):
    """The exporter and its page."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(
        9464, ge=0, le=65535, description="port of /metrics and the page, 0 = any free one"
    )
    ttl_s: Seconds = Field(
        600.0, description="a run without news for this long is no longer exported"
    )
    series_cap: int = Field(10_000, ge=1, description="most series exported per run")
    history_windows: int = Field(400, ge=10, description="windows that the page shows")


class WatchSection(_Section):
    """The detectors."""

    warmup_windows: int = Field(16, ge=6, description="windows before a detector may vote")
    threshold: float = Field(5.0, gt=0, description="robust z at which a series votes")
    agree: int = Field(2, ge=1, description="votes needed within `of` windows")
    of: int = Field(3, ge=1, description="windows that are looked at")
    cooldown_windows: int = Field(20, ge=1, description="windows before a detector may speak again")


class PolicySection(_Section):
    """What the controller may ask of runs. Without a file: nothing."""

    file: str = Field("", description="YAML file of the policy; empty: none")
    private_key_file: str = Field(
        "", description="PEM file of the Ed25519 key that signs commands; needed to enforce"
    )


class PipelineSection(_Section):
    """What collector and controller say of themselves."""

    metrics_host: str = Field("127.0.0.1", description="address of the stages' own /metrics")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port of the stages' own /metrics, 0 = none"
    )


class YamlSource(YamlConfigSettingsSource):
    """The YAML file. YAML reads a bare key `off` or `on` as a truth value; here it is the name that was written."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        read: dict[str, Any] = _with_named_keys(super()._read_file(file_path))
        return read


def _with_named_keys(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    names = {False: "off", True: "on"}
    return {
        names[key] if isinstance(key, bool) else key: _with_named_keys(item)
        for key, item in value.items()
    }


class Settings(BaseSettings):
    """All settings of collector, exporter and controller."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    version: Literal[1] = Field(1, description="version of this schema")
    kafka: KafkaSection = Field(default_factory=KafkaSection)
    assemble: AssembleSection = Field(default_factory=AssembleSection)
    estimate: EstimateSection = Field(default_factory=EstimateSection)
    exporter: ExporterSection = Field(default_factory=ExporterSection)
    watch: WatchSection = Field(default_factory=WatchSection)
    policy: PolicySection = Field(default_factory=PolicySection)
    pipeline: PipelineSection = Field(default_factory=PipelineSection)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the YAML file."""
        path = os.environ.get(f"{PREFIX}CONFIG")
        if not path:
            return (init_settings, env_settings)
        return (init_settings, env_settings, YamlSource(settings_cls, path))


def load_settings(**flags: Any) -> Settings:
    """Return the merged settings; `flags` are nested mappings by section, None values left out.

    Raises:
        ConfigurationError: names the key, the value and what was expected.
    """
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        if isinstance(values, dict)
        else values
        for section, values in flags.items()
        if values is not None
    }
    path = os.environ.get(f"{PREFIX}CONFIG")
    if path and not os.path.isfile(path):
        raise ConfigurationError(f"{PREFIX}CONFIG", path, "a YAML file")
    model: Any = Settings
    try:
        settings: Settings = model(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(key, first.get("input"), first["msg"]) from None
    return settings
