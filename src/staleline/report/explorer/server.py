# SPDX-License-Identifier: GPL-2.0-or-later
"""A report on the loopback address: what it is made of, and nothing else."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from staleline.errors import UsageError
from staleline.printable import printable
from staleline.report.explorer.files import PAGE, report_files

__all__ = ["ReportServer", "read_report"]

_LOOPBACK = "127.0.0.1"
_HTML = "text/html; charset=utf-8"
_JSON, _SVG = "application/json", "image/svg+xml"
_TEXT = "text/plain; charset=utf-8"

#: The page names its own script and style by hash; this adds what a meta element cannot say. A
#: picture says nothing, and that of a report that somebody sent may hold a script.
_PAGE_POLICY = "frame-ancestors 'none'"
_OTHERS_POLICY = f"default-src 'none'; sandbox; {_PAGE_POLICY}"
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def read_report(directory: Path) -> dict[str, bytes]:
    """The files of a report by their address, e.g. ``/traces/x.itf.json``.

    Raises:
        UsageError: There is no report, or it cannot be read.
    """
    try:
        # All at once, before the first request, so that no request can name a path.
        files = {f"/{name}": path.read_bytes() for name, path in report_files(directory)}
    except OSError as error:
        raise UsageError(error.strerror or "cannot be read", where=directory) from None
    return {"/": files[f"/{PAGE}"], **files}


#: Connections at a time, each of which holds a thread; a browser opens six to a host.
_CONNECTIONS_MAX = 64
#: Seconds that one lasts, whatever it sends: each byte of a slow one begins its time-out anew.
_LASTS = 60
#: What browsers leave out of a Host header (RFC 9110, 7.2; RFC 3986, 6.2.3).
_HTTP_PORT = 80


class ReportServer(ThreadingHTTPServer):
    """Serves given files to this host alone.

    Args:
        files: Address -> content.
        port: Port to bind; 0 for a free one.

    Raises:
        UsageError: The port cannot be bound.
    """

    # Ctrl-C is not to wait for connections that are open.
    daemon_threads = True
    #: Another process may not take requests that are meant for this one.
    allow_reuse_address = False

    def __init__(self, files: Mapping[str, bytes], port: int = 0) -> None:
        self.files = files
        #: Connection -> when it began.
        self._since: dict[Any, float] = {}
        try:
            super().__init__((_LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(
                error.strerror or "cannot be bound", where=f"port {port}", do="name another port"
            ) from None

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a connection, unless there are too many."""
        if len(self._since) >= _CONNECTIONS_MAX:
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End what has lasted too long; its thread sees the end of what is sent."""
        now = time.monotonic()
        for request, since in tuple(self._since.items()):
            if now - since > _LASTS:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that goes away is no error; anything else is a defect, and told in a line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            sys.stderr.write(f"staleline: {printable(f'a request failed, a defect: {error!r}')}\n")

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{_LOOPBACK}:{self.server_port}/"

    def is_own(self, host: str | None) -> bool:
        """Is this Host header the server's own address?"""
        ports = {f":{self.server_port}", *([""] if self.server_port == _HTTP_PORT else [])}
        return host in {f"{name}{port}" for name in (_LOOPBACK, "localhost") for port in ports}


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    # A connection that says nothing ends, as each holds a thread.
    timeout = 10
    server: ReportServer

    def do_GET(self) -> None:
        """A file of the report, or the reason why not."""
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            # A body is not read, and would be taken for the next request.
            self.close_connection = True
        # The page of another origin whose name was made to resolve to 127.0.0.1 gets nothing.
        if not self.server.is_own(self.headers.get("Host")):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, _TEXT, b"not this server's address\n")
            return
        address = self.path.split("?", 1)[0]
        content = self.server.files.get(address)
        if content is None:
            self._answer(HTTPStatus.NOT_FOUND, _TEXT, b"not a file of this report\n")
            return
        self._answer(HTTPStatus.OK, _kind_of(address), content)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it

    def _refuse(self) -> None:
        self.close_connection = True  # as above
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"GET and HEAD only\n")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 - says what the client sent
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """What is no request, or has a method of nobody's, is answered like all else."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._answer(status, _TEXT, f"{status.phrase}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # RFC 9110, 15.5.6, asks for it.
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        policy = _PAGE_POLICY if kind == _HTML else _OTHERS_POLICY
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        """The Server header, without versions."""
        return "staleline"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
        """Say nothing: what one reads on one's own host needs no log."""


def _kind_of(address: str) -> str:
    kinds = {".json": _JSON, ".svg": _SVG}
    return next((kind for end, kind in kinds.items() if address.endswith(end)), _HTML)
