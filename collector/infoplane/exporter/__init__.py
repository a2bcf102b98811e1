"""The exporter: newest estimates for Prometheus, and the live page for people, from one process and port."""

from infoplane.exporter.feed import Feed, FeedStatus
from infoplane.exporter.server import serve
from infoplane.exporter.store import Snapshot, Store

__all__ = ["Feed", "FeedStatus", "Snapshot", "Store", "serve"]
