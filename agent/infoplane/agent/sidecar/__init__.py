"""The sidecar: a process beside each rank that owns the transport, so that Kafka's client never takes the rank's GIL.

It is started by exec, never forked, knows neither torch nor CUDA, and ends with its rank, however that ends.
"""

from infoplane.agent.sidecar.start import Start, is_possible
from infoplane.agent.sidecar.transport import SidecarTransport

__all__ = ["SidecarTransport", "Start", "is_possible"]
