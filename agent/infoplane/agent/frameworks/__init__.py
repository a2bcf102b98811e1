"""What differs between training frameworks: one adapter per file, all quirks fenced in here."""

from infoplane.agent.frameworks.adapter import Adapter, Unsupported, adapt

__all__ = ["Adapter", "Unsupported", "adapt"]
