# SPDX-License-Identifier: GPL-2.0-or-later
"""What the server answers, and to whom."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from staleline.errors import UsageError
from staleline.report.explorer.files import write_report
from staleline.report.explorer.server import ReportServer, read_report
from tests.report.explorer.explored import HYGON_CASE, hygon

TRACE = f"/traces/{HYGON_CASE}.itf.json"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served")
    write_report(hygon(), directory)
    (directory / "secret.html").write_text("not of the report")
    (directory / "traces" / "link.itf.json").symlink_to("/etc/hostname")
    return directory


@pytest.fixture(scope="module")
def server(report: Path) -> Iterator[ReportServer]:
    with ReportServer(read_report(report)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: ReportServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_the_page_and_the_traces_are_served_as_they_are(server: ReportServer, report: Path) -> None:
    for path, file in (
        ("/", "index.html"),
        ("/index.html", "index.html"),
        (f"{TRACE}?x=1", TRACE[1:]),
    ):
        answer, content = ask(server, path)
        assert answer.status == 200
        assert content == (report / file).read_bytes()
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    [
        "/secret.html",
        "/../secret.html",
        "/traces/../secret.html",
        "/traces/",
        "/traces/link.itf.json",
        "/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/index.html/",
        "/traces/%00",
        "http://127.0.0.1/index.html",
    ],
)
def test_nothing_else_is_served(server: ReportServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil:80"])
def test_a_name_that_was_made_to_point_here_gets_nothing(server: ReportServer, host: str) -> None:
    answer, content = ask(server, "/", host=host)
    assert answer.status == 421
    assert b"<" not in content


def test_localhost_is_this_host(server: ReportServer) -> None:
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(server: ReportServer, method: str) -> None:
    answer, _ = ask(server, "/", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_has_the_headers_and_no_content(server: ReportServer) -> None:
    got, content = ask(server, "/")
    head, nothing = ask(server, "/", "HEAD")
    assert nothing == b""
    assert head.headers["Content-Length"] == str(len(content))
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


def test_answers_tell_browsers_to_be_careful(server: ReportServer) -> None:
    headers = ask(server, "/")[0].headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Server"] == "staleline"


def test_only_the_loopback_address_listens(server: ReportServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    # Another address of this host, as a neighbour would use it: all of 127/8 is loopback.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.server_port), timeout=5)


def test_a_port_that_is_taken_is_said_so(server: ReportServer) -> None:
    with pytest.raises(UsageError, match=f"port {server.server_port}: Address already in use"):
        ReportServer({}, server.server_port)


def test_a_directory_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no index\.html of a report; write one"):
        read_report(tmp_path)


def test_a_page_that_is_a_link_is_not_a_report(tmp_path: Path) -> None:
    (tmp_path / "index.html").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="no index"):
        read_report(tmp_path)


def test_clients_that_go_away_midway_are_no_error(
    server: ReportServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before, within and after the request; with what they sent unread, so that they reset."""
    host = f"Host: 127.0.0.1:{server.server_port}\r\n\r\n".encode()
    get, much = b"GET / HTTP/1.1\r\n" + host, b"x" * 100_000
    for sent in (b"", b"GET", get[:20], get, get * 40, get + much, b"\x1b[31m\xff\r\n\r\n", much):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as client:
            # Lingering for no time: closing resets, whatever is still on its way.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.sendall(sent)
            client.settimeout(0.2)
            with suppress(TimeoutError):
                client.recv(1)
    assert ask(server, "/")[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_a_defect_of_a_request_is_one_line(
    report: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, bool] = {}
    monkeypatch.setattr(ReportServer, "is_own", lambda *_: nothing["\x1b[31m"])
    with ReportServer(read_report(report)) as broken:
        thread = threading.Thread(target=broken.handle_request)
        thread.start()
        with pytest.raises(http.client.RemoteDisconnected):
            ask(broken, "/")
        thread.join()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("staleline: a request failed, a defect: KeyError")
    assert line.isprintable()
