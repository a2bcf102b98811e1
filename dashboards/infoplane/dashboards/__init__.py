"""Builders of the Grafana dashboard, the Prometheus rules and the metrics page: `python -m infoplane.dashboards`."""

from infoplane.dashboards.artifacts import generated_files, write_artifacts

__all__ = ["generated_files", "write_artifacts"]
