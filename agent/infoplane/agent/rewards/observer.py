"""What the observe_* methods share: the way to the reward log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infoplane.agent.rewards.kinds import EventKind
from infoplane.agent.rewards.log import RewardLog


class Observer:
    """Whoever can be told about rewards."""

    @property
    def _rewards(self) -> RewardLog | None:
        """Where events go; None when disabled."""
        raise NotImplementedError

    def _tell(
        self,
        kind: EventKind,
        stream: str,
        step: int | None,
        *,
        contents: Mapping[str, Any],
        numbers: Mapping[str, Any],
        features: Mapping[str, Any] | None = None,
        mask: Any = None,
    ) -> None:
        log = self._rewards
        if log is not None:
            log.observe(
                kind,
                stream,
                step,
                contents=contents,
                numbers=numbers,
                features=features or {},
                mask=mask,
            )
