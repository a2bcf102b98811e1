"""What `infoplane demo --act` needs: a key pair, a policy that enforces, and the settings of both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infoplane.wire.commands import create_keys

ACTION: Final = "learning_rate_factor"
FACTOR: Final = 0.1
LOOK_EVERY_STEPS: Final = 2
# A busy laptop may be a while behind its own training job; the command must not expire meanwhile.
_EXPIRES_S: Final = 120
_POLICY: Final = f"""\
version: 1
mode: enforce
rules:
  - name: cut-learning-rate
    when: {{verdict: {{detector: change, severity: warning}}}}
    action: {ACTION}
    value: {FACTOR}
    bounds: [{FACTOR}, 1.0]
    budget: 1
    expires_s: {_EXPIRES_S}
    only_if_value: 1.0
"""


@dataclass(frozen=True, slots=True)
class Acting:
    """Variables of the two sides: the private key is named to the controller alone."""

    controller: dict[str, str]
    job: dict[str, str]


def prepare_acting(directory: Path) -> Acting:
    """Write keys and policy into `directory` and return who is told what."""
    private, public = create_keys(directory / "keys")
    policy = directory / "policy.yaml"
    policy.write_text(_POLICY, encoding="utf-8")
    return Acting(
        controller={
            "INFOPLANE_POLICY__FILE": str(policy),
            "INFOPLANE_POLICY__PRIVATE_KEY_FILE": str(private),
        },
        job={
            "INFOPLANE_CONTROL__ENABLED": "1",
            "INFOPLANE_CONTROL__PUBLIC_KEYS": str(public),
            "INFOPLANE_CONTROL__EVERY_STEPS": str(LOOK_EVERY_STEPS),
        },
    )
