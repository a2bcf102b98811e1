"""The agent: rides in every rank of a training job, sketches what layers do, and never harms training.

    from infoplane.agent import attach

    monitor = attach(engine)          # a DeepSpeed engine, after deepspeed.initialize
    monitor.log(loss=loss)            # before engine.step()

Needs torch, which is the user's own. `INFOPLANE_ENABLED=0` makes all of it a no-op.
"""

from infoplane.agent.monitor import Monitor, attach
from infoplane.agent.settings import Settings, describe

__all__ = ["Monitor", "Settings", "attach", "describe"]
