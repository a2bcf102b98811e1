"""What a controller does about results and verdicts: rules in, audited proposals and signed commands out."""

from infoplane.controller.policy.engine import PolicyEngine
from infoplane.controller.policy.loading import engine_maker, load_policy
from infoplane.controller.policy.rules import Policy, Rule

__all__ = ["Policy", "PolicyEngine", "Rule", "engine_maker", "load_policy"]
