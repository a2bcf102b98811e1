"""Control: signed commands reach all ranks at the same step, or none.

Off by default. Three promises: a rank never waits for control longer than `control.wait_s`, and not
at all in a healthy job; all ranks apply a command at the same boundary; when anything is wrong,
control ends, loudly, what is in force stays as it is, and training goes on.
"""

from infoplane.agent.control.control import Control
from infoplane.agent.control.means import Means
from infoplane.agent.control.reader import CommandSource, MemorySource

__all__ = ["CommandSource", "Control", "Means", "MemorySource"]
