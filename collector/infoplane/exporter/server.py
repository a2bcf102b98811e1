"""The exporter's process: one feed, one store, one port for Prometheus and for people."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from infoplane.collector.settings import ExporterSection, Settings
from infoplane.exporter.feed import Feed
from infoplane.exporter.page import mount_page
from infoplane.exporter.routes import add_routes
from infoplane.exporter.store import Store
from infoplane.wire.errors import ConfigurationError

_SHUTDOWN_S = 2


class _Server(uvicorn.Server):
    """Leaves signals to the command line, and says when it listens."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with warnings.catch_warnings():
            # NiceGUI looks at every object of the process to find this server, and so touches deprecated ones.
            warnings.simplefilter("ignore", FutureWarning)
            await super().startup(sockets)
        if self.started:
            self._on_listening()


def serve(
    settings: Settings, stop: threading.Event | None, on_ready: Callable[[str], None]
) -> None:
    """Serve /metrics, the page and the JSON doors until `stop` is set. Once per process: the page is global.

    Args:
        settings: `kafka` and `exporter` are used. Port 0 takes any free one.
        stop: set it from any thread to end; None serves for ever.
        on_ready: called once with the page's URL when the port answers.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    section = settings.exporter
    store = Store(
        ttl_s=section.ttl_s,
        series_cap=section.series_cap,
        history_windows=section.history_windows,
    )
    feed = Feed(settings.kafka, store)
    app = FastAPI(title="infoplane", openapi_url=None)
    add_routes(app, store, feed)
    mount_page(app, store, feed)
    with _listen(section) as listener:
        url = f"http://{section.host}:{listener.getsockname()[1]}/"
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=_SHUTDOWN_S
        )
        server = _Server(config, lambda: on_ready(url))
        feed.start()
        try:
            _run(server, listener, stop)
        finally:
            feed.stop()


def _listen(section: ExporterSection) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
        return socket.create_server((section.host, section.port), family=family)
    except OSError as error:
        raise ConfigurationError(
            "exporter.port", f"{section.host}:{section.port}", f"a free address ({error.strerror})"
        ) from None


def _run(server: _Server, listener: socket.socket, stop: threading.Event | None) -> None:
    def watch(event: threading.Event) -> None:
        event.wait()
        server.should_exit = True

    if stop is not None:
        threading.Thread(target=watch, args=(stop,), name="infoplane-stop", daemon=True).start()
    server.run(sockets=[listener])
