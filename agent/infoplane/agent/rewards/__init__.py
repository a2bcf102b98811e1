"""Reward events: preferences, votes, scores, rollouts, searches and chains of thought that the training loop tells.

On the caller's thread `RewardLog` checks and copies what it is given; the publisher thread reads it to the host,
hashes contents, keeps the byte budget and frames messages for the topic `events`. `adapters` take the same from the
objects of alignment libraries. The contract is section 10 of docs/architecture.md; how to use it is docs/rewards.md.
"""

from infoplane.agent.rewards.contents import Contents, Padded
from infoplane.agent.rewards.kinds import COT, PREFERENCES, ROLLOUTS, SCORES, SEARCH, VOTES
from infoplane.agent.rewards.log import RewardLog
from infoplane.agent.rewards.masks import Mask
from infoplane.agent.rewards.numbers import Features, Numbers
from infoplane.agent.rewards.observing import Observing

__all__ = [
    "COT",
    "PREFERENCES",
    "ROLLOUTS",
    "SCORES",
    "SEARCH",
    "VOTES",
    "Contents",
    "Features",
    "Mask",
    "Numbers",
    "Observing",
    "Padded",
    "RewardLog",
]
