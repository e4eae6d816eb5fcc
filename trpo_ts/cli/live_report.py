"""A report served on this machine while its runs are trained; the page asks for newer contents by itself."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from trpo_ts.cli.run_files import RunFiles
from trpo_ts.cli.run_folders import read_runs
from trpo_ts.cli.run_report import runs_page
from trpo_ts.cli.usage import UsageError
from trpo_ts.reports.run_page import RunPage

__all__ = ["ReportServer", "serve"]

_HOST = "127.0.0.1"


def serve(found: Sequence[RunFiles], port: int) -> None:
    """Serve the report of the runs until Ctrl-C, and print its address.

    :param port: of this machine; 0 takes one that is free.
    :raises UsageError: when the port cannot be had, or a file of a run cannot be read.
    """
    source = _Source(found)
    source.page()  # what is wrong is said before there is a server
    try:
        server = ReportServer((_HOST, port), source)
    except OSError as error:
        problem = "in use" if error.errno == errno.EADDRINUSE else f"refused ({error.strerror})"
        raise UsageError(f"port {port} is {problem}; type --port 0 for one that is free") from error
    with server:
        print(f"http://{_HOST}:{server.server_port}/ shows the report and refreshes it; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print("ended", flush=True)


class _Source:
    """The page of the runs, read anew when a file has changed."""

    def __init__(self, found: Sequence[RunFiles]) -> None:
        self._found = found
        self._lock = Lock()
        self._stamps: list[tuple[int, int]] = []
        self._page: RunPage | None = None

    def page(self) -> RunPage:
        """Return the page with what is recorded now."""
        with self._lock:
            files = [path for run in self._found for path in (run.metrics, run.config, run.summary)]
            stamps = [(path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else (0, 0) for path in files]
            if self._page is None or stamps != self._stamps:
                self._page = runs_page(read_runs(self._found))
                self._stamps = stamps
            return self._page


class ReportServer(ThreadingHTTPServer):
    """Answers ``/`` with the page, and ``/contents`` with what changes on it.

    :param address: host and port.
    :param source: has the page.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], source: _Source) -> None:
        self.source = source
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that go away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        """Answer one request."""
        parts = urlsplit(self.path)
        if parts.path not in ("/", "/contents"):
            return self.send_error(HTTPStatus.NOT_FOUND)
        try:
            page = self.server.source.page()
        except (UsageError, OSError) as error:
            print(f"trpo-ts: {error}", file=sys.stderr, flush=True)
            return self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        if parts.path == "/":
            return self._answer("text/html", page.html(live=True))
        if parse_qs(parts.query).get("version") == [page.version()]:
            self.send_response(HTTPStatus.NO_CONTENT)
            return self.end_headers()
        return self._answer("application/json", json.dumps(page.contents()))

    def _answer(self, kind: str, text: str) -> None:
        body = text.encode("utf-8")
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print no line per request."""
