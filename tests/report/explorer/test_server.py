# SPDX-License-Identifier: GPL-2.0-or-later
"""What the server answers, and to whom."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
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


def test_browsers_leave_the_port_of_http_out(server: ReportServer) -> None:
    """RFC 3986, 6.2.3; the port itself takes root."""
    assert not server.is_own("localhost")
    port, server.server_port = server.server_port, 80
    try:
        assert server.is_own("127.0.0.1")
        assert server.is_own("localhost")
        assert server.is_own("localhost:80")
        assert not server.is_own("evil.example")
        assert not server.is_own(None)
    finally:
        server.server_port = port


def told(server: ReportServer, sent: bytes) -> bytes:
    """All that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as client:
        client.sendall(sent)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_a_body_is_not_taken_for_the_next_request(server: ReportServer) -> None:
    host = f"Host: 127.0.0.1:{server.server_port}\r\n"
    inner = f"GET /secret HTTP/1.1\r\n{host}\r\n"
    for length in (f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked"):
        answer = told(server, f"GET / HTTP/1.1\r\n{host}{length}\r\n\r\n{inner}".encode())
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent", ["BREW <b> HTTP/1.1", "<b>", "GET / HTTP/9.9", "GET " + "/" * 70_000, "GET / <b> X"]
)
def test_what_is_no_request_is_answered_in_plain_text_without_its_words(
    server: ReportServer, sent: str
) -> None:
    answer = told(server, f"{sent}\r\n\r\n".encode())
    assert b"<" not in answer
    # Who speaks HTTP/0.9 is told no headers.
    if answer.startswith(b"HTTP/"):
        assert b"X-Content-Type-Options: nosniff\r\n" in answer
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in answer


def test_a_picture_of_somebody_else_s_report_runs_nothing(server: ReportServer) -> None:
    for path in (TRACE, TRACE.replace(".itf.json", ".svg")):
        answer, _ = ask(server, path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy == "default-src 'none'; sandbox; frame-ancestors 'none'"


def test_who_sends_a_byte_now_and_then_is_ended(
    server: ReportServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("staleline.report.explorer.server._LASTS", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
        client.settimeout(0.05)
        for _ in range(100):
            try:
                client.sendall(b"G")
                ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            assert ended
            break
        else:
            pytest.fail("it lasts")


def test_connections_that_say_nothing_are_few_and_keep_nobody_out_for_long(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("staleline.report.explorer.server._CONNECTIONS_MAX", 4)
    monkeypatch.setattr("staleline.report.explorer.server._LASTS", 0.5)
    with ReportServer(read_report(report)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = ("127.0.0.1", running.server_port)
        silent = [socket.create_connection(address, timeout=5) for _ in range(12)]
        try:
            # What is one too many is closed at once, and the others when they have lasted too long.
            assert all(client.recv(1) == b"" for client in silent)
            # Their places are free soon after the client has seen the end.
            assert served(running, within=5)
        finally:
            for client in silent:
                client.close()
            running.shutdown()
            thread.join()


def served(server: ReportServer, within: float) -> bool:
    """Is the page there in so many seconds, asked again where there was no place?"""
    end = time.monotonic() + within
    while time.monotonic() < end:
        with suppress(http.client.RemoteDisconnected, ConnectionResetError):
            return ask(server, "/")[0].status == 200
        time.sleep(0.05)
    return False


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
