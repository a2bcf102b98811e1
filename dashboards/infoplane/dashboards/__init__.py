"""Builders of the Grafana dashboard, the Prometheus rules and the metrics page: `python -m infoplane.dashboards`."""

from infoplane.dashboards.artifacts import build_all, generated_files, write_artifacts

__all__ = ["build_all", "generated_files", "write_artifacts"]
