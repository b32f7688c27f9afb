"""The page's server: a short list of what may be asked, and a refusal for all else, however it is put."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aim.server import COOKIE, MAX_BODY, Desk, Reply, Server, listen, may_look
from agent.aim.session import Session


@dataclass
class Stage:
    """What the page asks of the process behind it."""

    forbidden: str | None = None
    problems: list[str] = field(default_factory=list)
    saved: list[bytes] = field(default_factory=list)
    looked: list[int] = field(default_factory=list)

    def view(self) -> bytes:
        return b'{"cameras":[]}'

    def zones(self) -> dict[str, Any]:
        return {"cameras": [], "undo": False}

    def save(self, document: bytes, uid: int) -> list[str]:
        self.saved.append(document)
        return self.problems

    def undo(self, uid: int) -> list[str]:
        return self.problems

    def looks(self, uid: int) -> str | None:
        self.looked.append(uid)
        return self.forbidden


class Bench:
    """A desk whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.session = Session(600, lambda: self.now)
        self.stage = Stage()
        self.desk = Desk(self.session, self.stage)
        self.cookie = ""

    def enter(self) -> Reply:
        reply = self.ask("GET", f"/?token={self.session.token}")
        self.cookie = dict(reply.headers).get("Set-Cookie", "").partition(";")[0]
        return reply

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
        fields = {"host": "localhost:8080", "cookie": self.cookie}
        if method == "POST":
            fields |= {"origin": "http://localhost:8080", "content-type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.desk.answer(method, target, fields, body, 1000)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_token_opens_the_page_once_and_leaves_the_address(bench: Bench) -> None:
    token = bench.session.token
    reply = bench.enter()
    headers = dict(reply.headers)
    assert (reply.status, headers["Location"]) == (HTTPStatus.SEE_OTHER, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= set(headers["Set-Cookie"].split("; "))
    assert bench.stage.looked == [1000]
    assert bench.ask("GET", f"/?token={token}").status is HTTPStatus.FORBIDDEN
    for path, kind in (("/", "text/html"), ("/aim.js", "text/javascript"), ("/aim.css", "text/css")):
        page = bench.ask("GET", path)
        assert (page.status, page.kind) == (HTTPStatus.OK, kind)
    assert bench.ask("GET", "/view").body == b'{"cameras":[]}'


@pytest.mark.parametrize("path", ["/", "/view", "/zones", "/aim.js", "/aim.css"])
def test_nothing_is_shown_without_the_token(bench: Bench, path: str) -> None:
    assert bench.ask("GET", path).status is HTTPStatus.FORBIDDEN
    assert bench.ask("GET", path, cookie=f"{COOKIE}=guess").status is HTTPStatus.FORBIDDEN
    assert bench.ask("GET", f"{path}?token=guess").status is HTTPStatus.FORBIDDEN
    assert bench.stage.looked == []


def test_a_look_that_cannot_be_recorded_is_none(bench: Bench) -> None:
    bench.stage.forbidden = "the audit log cannot be written: the disk is full"
    assert bench.enter().status is HTTPStatus.SERVICE_UNAVAILABLE
    assert bench.session.over


def test_everything_is_over_at_the_end(bench: Bench) -> None:
    bench.enter()
    assert bench.ask("GET", "/view").status is HTTPStatus.OK
    bench.now = 600.0
    for path in ("/", "/view", f"/?token={bench.session.token}"):
        assert bench.ask("GET", path).status is HTTPStatus.GONE


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example:8080", "localhost:8080@evil", "127.0.0.1.x"]
)
def test_another_host_name_is_refused(bench: Bench, host: str) -> None:
    bench.enter()
    assert bench.ask("GET", "/view", host=host).status is HTTPStatus.MISDIRECTED_REQUEST


def test_only_the_page_itself_changes_something(bench: Bench) -> None:
    bench.enter()
    assert bench.ask("POST", "/zones", b"{}").status is HTTPStatus.OK
    assert bench.ask("POST", "/zones", b"{}", origin="http://evil.example").status is HTTPStatus.FORBIDDEN
    assert bench.ask("POST", "/zones", b"{}", origin="null").status is HTTPStatus.FORBIDDEN
    plain = bench.ask("POST", "/zones", b"{}", content_type="text/plain")
    assert plain.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert bench.stage.saved == [b"{}"]


def test_problems_are_told_in_words(bench: Bench) -> None:
    bench.enter()
    bench.stage.problems = ["zones[0].polygon: has no area"]
    reply = bench.ask("POST", "/zones", b"{}")
    assert reply.status is HTTPStatus.UNPROCESSABLE_ENTITY
    assert json.loads(reply.body) == {"problems": ["zones[0].polygon: has no area"]}


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    target=st.text(max_size=60) | st.text(max_size=30).map(lambda text: f"/{text}") | st.just("/../../etc/passwd"),
    headers=st.dictionaries(
        st.sampled_from(["host", "cookie", "origin", "content-type"]), st.text(max_size=40), max_size=4
    ),
    body=st.binary(max_size=50),
)
def test_whatever_a_stranger_asks_is_refused(method: str, target: str, headers: dict[str, str], body: bytes) -> None:
    bench = Bench()
    reply = bench.desk.answer(method, target, {"host": "localhost"} | headers, body, 1000)
    assert reply.status >= HTTPStatus.BAD_REQUEST
    assert not bench.stage.saved
    assert not bench.stage.looked


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Bench, Path]]:
    bench, path = Bench(), tmp_path / "aim.sock"
    with contextlib.closing(listen(path)) as listener, Server(listener, bench.desk) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield bench, path
        server.shutdown()
        thread.join()


def raw(path: Path, request: bytes) -> bytes:
    """What a request brings, to the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(str(path))
        with contextlib.suppress(OSError):  # it may be refused before it was sent
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while chunk := client.recv(65536):
                answer += chunk
        return answer


def test_the_socket_is_for_its_group_and_the_page_is_kept_nowhere(served: tuple[Bench, Path]) -> None:
    bench, path = served
    assert path.stat().st_mode & 0o777 == 0o660
    answer = raw(path, b"GET /view HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403")
    bench.enter()
    answer = raw(path, f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {bench.cookie}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200")
    for header in (b"Cache-Control: no-store", b"default-src 'none'", b"frame-ancestors 'none'", b"nosniff"):
        assert header in answer


HOSTILE = {
    "an unknown method": b"DELETE /zones HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP 0.9": b"GET /\r\n",
    "an address without end": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
    "two lengths": b"POST /zones HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "chunks": b"POST /zones HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a body too long": b"POST /zones HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
    "a length that is none": b"POST /zones HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "a body that ends early": b"POST /zones HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nab",
    "a way out": b"GET /../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a proxy's request": b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_requests_are_refused_and_the_page_lives_on(served: tuple[Bench, Path], what: str) -> None:
    bench, path = served
    bench.enter()
    answer = raw(path, HOSTILE[what])
    assert answer == b"" or int(answer.split()[1]) >= HTTPStatus.BAD_REQUEST
    assert bench.stage.saved == []
    assert raw(path, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 403")


def test_an_account_that_is_no_technicians_is_not_heard(tmp_path: Path) -> None:
    path = tmp_path / "aim.sock"
    bench = Bench()
    with (
        contextlib.closing(listen(path)) as listener,
        Server(listener, bench.desk, {4_000_000_000}.__contains__) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert raw(path, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        server.shutdown()
        thread.join()


def test_root_may_look_and_an_account_that_is_not_there_may_not() -> None:
    assert may_look(0)
    assert not may_look(4_000_000_000)


def test_a_second_view_is_refused_and_a_dead_ones_socket_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "aim.sock"
    with contextlib.closing(listen(path)), pytest.raises(OSError, match="another view"):
        listen(path)
    listen(path).close()
