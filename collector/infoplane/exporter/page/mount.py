"""Puts the page on the exporter's application."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException
from fastapi.staticfiles import StaticFiles
from nicegui import ui

from infoplane.exporter.metrics import Reader
from infoplane.exporter.page.board import Board
from infoplane.exporter.page.charts import BY_ID
from infoplane.exporter.page.detail import window_detail
from infoplane.exporter.page.picture import Painter
from infoplane.exporter.store import Store

_ASSETS: Final = Path(__file__).parent / "assets"
_REFRESH_S: Final = 1.0
_RECONNECT_S: Final = 60.0  # a busy machine or a laptop's nap must not reload the page
_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><path fill="#1c4a7a" d="M0 0h4v4H0z"/>'
    '<path fill="#9ad9b4" d="M0 2h2v2H0z"/><path fill="#ff5c5c" d="M2 1h2v2H2z"/></svg>'
)


def mount_page(app: FastAPI, store: Store, reader: Reader) -> None:
    """Serve the page at `/`, what it needs at `/assets`, and what hovering asks for at `/api/detail`."""
    painter = Painter(store)
    app.mount("/assets", StaticFiles(directory=_ASSETS))

    @app.get("/api/detail")
    def detail(run: str, chart: str, window: int, index: int | None = None) -> dict[str, Any]:
        if chart not in BY_ID:
            raise HTTPException(404, f"chart {chart!r} is not one of {', '.join(BY_ID)}")
        return window_detail(store, run, BY_ID[chart], window, index)

    @ui.page("/")
    def page(run: str = "") -> None:
        ui.add_head_html(
            '<link rel="stylesheet" href="/assets/page.css"><script src="/assets/page.js"></script>'
        )
        board = Board(store, painter, reader, run)
        ui.timer(_REFRESH_S, board.refresh)

    ui.run_with(
        app,
        title="infoplane",
        favicon=_ICON,
        dark=True,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT_S,
    )
