"""Hard limits on raw values: they speak at once, past every filter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """Values below `low` or above `high` are a fault whatever came before."""

    metric: str
    low: float | None = None
    high: float | None = None

    def broken_by(self, value: float) -> str | None:
        """Return what is wrong with a value, None if nothing is."""
        if self.low is not None and value < self.low:
            return f"below {self.low:g}"
        if self.high is not None and value > self.high:
            return f"above {self.high:g}"
        return None


DEFAULT_LIMITS = (
    Limit("policy_entropy_nats", low=0.01),
    Limit("effective_rank", low=1.05),
    Limit("activation_dead_ratio", high=0.999),
)
# Metrics of which a value that is not a number means that the training itself is broken.
NONFINITE = frozenset(
    {"training_scalar", "representation_rms", "von_neumann_entropy_nats", "token_surprisal_nats"}
)
