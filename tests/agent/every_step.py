"""Settings under which a test finds every step of a toy in what was sent."""

from __future__ import annotations

from typing import Any, Final

# A toy takes its steps faster than a busy machine lets the publisher encode them, and every step of it costs more than
# the governor would allow: nothing may be dropped for either reason.
EVERY_STEP: Final[dict[str, Any]] = {
    "transport": "memory", "run": "test", "sampling.base_level": 0, "governor.enabled": False, "buffers.slots": 64,
    "exit_timeout_s": 60,
}  # fmt: skip
