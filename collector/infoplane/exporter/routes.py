"""The HTTP doors besides the page: /metrics, /healthz and the JSON for tools."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from infoplane.collector.metrics import metric_named
from infoplane.exporter.answers import health_answer, run_answer, series_answer
from infoplane.exporter.metrics import FeedCollector, Reader, StoreCollector
from infoplane.exporter.store import Store
from infoplane.wire.errors import UndefinedMetricError


def add_routes(app: FastAPI, store: Store, reader: Reader) -> None:
    """Put the doors on `app`."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    registry.register(FeedCollector(reader))

    @app.get("/metrics")
    def metrics(accept: Annotated[str, Header()] = "") -> Response:
        encoder, content_type = choose_encoder(accept)
        return Response(encoder(registry), media_type=content_type)

    @app.get("/healthz")
    def healthz(response: Response) -> dict[str, Any]:
        answer = health_answer(reader.status())
        # Alive either way: a broker that is down is not cured by restarting the exporter, so only the body says it.
        response.headers["cache-control"] = "no-store"
        return answer

    @app.get("/api/runs")
    def runs() -> list[dict[str, Any]]:
        return [run_answer(one, store.now_s()) for one in store.snapshots()]

    @app.get("/api/series")
    def series(run: str, metric: str) -> dict[str, Any]:
        try:
            known = metric_named(metric)
        except UndefinedMetricError as error:
            raise HTTPException(404, str(error)) from None
        if store.snapshot(run) is None:
            raise HTTPException(404, f"run {run!r} is not known")
        found = store.history(run, known.name)
        return {
            "run": run,
            "metric": known.name,
            "unit": known.unit,
            "series": [series_answer(one, points) for one, points in sorted_series(found)],
        }


def sorted_series(found: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return series in the order of their labels."""
    return sorted(found.items(), key=lambda item: item[0].labels)
