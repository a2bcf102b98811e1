"""Reward events: preferences, rollouts and scores that the training loop hands to the monitor.

On the caller's thread `RewardLog` checks and copies what it is given; the publisher thread reads it to the host,
hashes contents, keeps the byte budget and frames messages for the topic `events`. The contract is section 10 of
docs/architecture.md; how to use it is docs/rewards.md.
"""

from infoplane.agent.rewards.contents import Contents
from infoplane.agent.rewards.kinds import PREFERENCES, ROLLOUTS, SCORES
from infoplane.agent.rewards.log import RewardLog
from infoplane.agent.rewards.numbers import Features, Numbers

__all__ = [
    "PREFERENCES",
    "ROLLOUTS",
    "SCORES",
    "Contents",
    "Features",
    "Numbers",
    "RewardLog",
]
