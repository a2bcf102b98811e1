"""The live page: what an on-call person looks at first."""

from infoplane.exporter.page.mount import mount_page

__all__ = ["mount_page"]
