"""HTTP on a Unix socket, for one page: what may be asked is a short list, and everything else is refused.

Who connects is known from the kernel (SO_PEERCRED): the account that forwards the socket over SSH. That account must be
a technician's. The token keeps others out who can reach the forwarded port on the technician's own machine: it is good
once, for a cookie. `Host` must be this machine's own name, so that no page elsewhere is one with this one (DNS
rebinding), and what changes something must come from the page itself (`Origin`).
"""

from __future__ import annotations

import errno
import grp
import http
import json
import logging
import os
import pwd
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from agent import pipe
from agent.aim.session import Session

log = logging.getLogger(__name__)

#: Group whose members may look.
TECHNICIANS = "vigie-tech"
COOKIE = "vigie-aim"
#: Longest body, bytes: 16 zones of 64 corners take a third of it. Longest address and headers are http.server's own.
MAX_BODY = 64 * 1024
_PAGE = {
    "/": ("index.html", "text/html"),
    "/aim.css": ("aim.css", "text/css"),
    "/aim.js": ("aim.js", "text/javascript"),
}
_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?")
_CONNECTIONS = 16
_TIMEOUT_S = 15
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Stage(Protocol):
    """What the page asks of the process behind it. Called from several threads, one at a time."""

    def view(self) -> bytes:
        """What is seen now, as JSON."""

    def zones(self) -> dict[str, Any]:
        """The zones and rules of the device's own files."""

    def save(self, document: bytes, uid: int) -> list[str]:
        """Save zones; the problems that keep them from being saved, one a line."""

    def undo(self, uid: int) -> list[str]:
        """Take back the last change; as `save`."""

    def looks(self, uid: int) -> str | None:
        """Somebody has the token: the reason in words why they may not look, or None."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: HTTP status.
        body: Its body.
        kind: Media type.
        headers: Further headers.
    """

    status: http.HTTPStatus
    body: bytes = b""
    kind: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: Any, status: http.HTTPStatus = http.HTTPStatus.OK) -> Reply:
        """A JSON document."""
        return cls(status, json.dumps(value).encode(), "application/json")

    @classmethod
    def refuse(cls, status: http.HTTPStatus, reason: str) -> Reply:
        """A refusal, in words."""
        return cls(status, f"{reason}\n".encode())


def may_look(uid: int) -> bool:
    """Whether an account is a technician's, root's or this process's own."""
    if uid in {0, os.geteuid()}:
        return True
    try:
        user, wanted = pwd.getpwuid(uid), grp.getgrnam(TECHNICIANS).gr_gid
    except KeyError:
        return False
    return wanted in os.getgrouplist(user.pw_name, user.pw_gid)


class Desk:
    """Answers requests; knows nothing of sockets."""

    def __init__(self, session: Session, stage: Stage) -> None:
        """Open.

        Args:
            session: Who may look, and until when.
            stage: What there is to look at.
        """
        self._session = session
        self._stage = stage
        self._lock = threading.Lock()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes, uid: int) -> Reply:
        """The answer to a request.

        Args:
            method: HTTP method.
            target: Path and query.
            headers: Header fields, by their names in lower case.
            body: Of the request.
            uid: Account that asks.
        """
        host = headers.get("host", "")
        try:
            parts = urlsplit(target)
            query = parse_qs(parts.query, max_num_fields=4, strict_parsing=bool(parts.query))
        except ValueError:
            return Reply.refuse(http.HTTPStatus.BAD_REQUEST, "no address of this page")
        if not _HOST.fullmatch(host) or parts.scheme or parts.netloc or parts.fragment:
            return Reply.refuse(http.HTTPStatus.MISDIRECTED_REQUEST, "open this page as http://localhost:PORT/")
        with self._lock:
            redeems = method == "GET" and parts.path == "/" and "token" in query
            if self._session.over:
                return Reply.refuse(http.HTTPStatus.GONE, "this view is over: start another one with `vigie aim`")
            if redeems:
                return self._redeem(query["token"][0], uid)
            if query or not self._session.knows(_cookie(headers)):
                reason = "open the address that `vigie aim` printed; it is good once"
                return Reply.refuse(http.HTTPStatus.FORBIDDEN, reason)
            return self._get(parts.path) if method == "GET" else self._post(parts.path, host, headers, body, uid)

    def _redeem(self, token: str, uid: int) -> Reply:
        cookie = self._session.redeem(token)
        if cookie is None:
            return Reply.refuse(http.HTTPStatus.FORBIDDEN, "this address was used, or was never good")
        reason = self._stage.looks(uid)
        if reason is not None:
            self._session.end()
            return Reply.refuse(http.HTTPStatus.SERVICE_UNAVAILABLE, reason)
        value = f"{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={self._session.left_s}"
        # The token leaves the address bar and the history's last entry.
        return Reply(http.HTTPStatus.SEE_OTHER, headers=(("Location", "/"), ("Set-Cookie", value)))

    def _get(self, path: str) -> Reply:
        if path in _PAGE:
            name, kind = _PAGE[path]
            return Reply(http.HTTPStatus.OK, (files("agent.aim") / "page" / name).read_bytes(), kind)
        if path == "/view":
            left = (("X-Vigie-Left", str(self._session.left_s)),)
            return Reply(http.HTTPStatus.OK, self._stage.view(), "application/json", left)
        if path == "/zones":
            return Reply.json(self._stage.zones())
        return Reply.refuse(http.HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, path: str, host: str, headers: Mapping[str, str], body: bytes, uid: int) -> Reply:
        if headers.get("origin") != f"http://{host}":
            return Reply.refuse(http.HTTPStatus.FORBIDDEN, "only the page itself may do this")
        if headers.get("content-type") != "application/json":
            return Reply.refuse(http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "application/json alone")
        if path == "/zones":
            return self._told(self._stage.save(body, uid))
        if path == "/undo":
            return self._told(self._stage.undo(uid))
        if path == "/end":
            self._session.end()
            return Reply.json({})
        return Reply.refuse(http.HTTPStatus.NOT_FOUND, "there is nothing here")

    def _told(self, problems: list[str]) -> Reply:
        if problems:
            return Reply.json({"problems": problems}, http.HTTPStatus.UNPROCESSABLE_ENTITY)
        return Reply.json(self._stage.zones())


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    timeout = _TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vigie", ""

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        if isinstance(body, Reply):
            self.close_connection = True  # what else it sent is not read
            reply = body
        else:
            reply = self.server.desk.answer(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                body,
                self.server.uid_of(self.request),
            )
        self._send(reply)

    def _body(self) -> bytes | Reply:
        lengths = self.headers.get_all("Content-Length", [])
        if self.request_version == "HTTP/0.9":
            self.request_version = self.protocol_version
            return Reply.refuse(http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1")
        names = [name.lower() for name in self.headers]
        if "transfer-encoding" in names or len(set(names)) < len(names):
            return Reply.refuse(http.HTTPStatus.BAD_REQUEST, "each header once, and no Transfer-Encoding")
        length = lengths[0] if lengths else "0"
        if not re.fullmatch(r"[0-9]{1,9}", length):
            return Reply.refuse(http.HTTPStatus.BAD_REQUEST, "no length")
        if int(length) > MAX_BODY:
            return Reply.refuse(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return Reply.refuse(http.HTTPStatus.BAD_REQUEST, "shorter than it says")
        return body

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in (*_HEADERS.items(), *reply.headers):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", f"{reply.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what http.server itself could not read, with the same headers as everything else."""
        del message, explain
        self.close_connection = True
        if self.request_version == "HTTP/0.9":
            self.request_version = self.protocol_version
        self._send(Reply.refuse(http.HTTPStatus(code), "refused"))

    def address_string(self) -> str:
        """Unix sockets have none."""
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Nothing is logged of what is asked: an address may hold the token."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The page on a Unix socket."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _CONNECTIONS

    def __init__(self, listener: socket.socket, desk: Desk, allowed: Callable[[int], bool] = may_look) -> None:
        """Serve on a socket that listens already.

        Args:
            listener: The socket.
            desk: Answers.
            allowed: Whether an account may look.
        """
        super().__init__(str(listener.getsockname()), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.desk = desk
        self._allowed = allowed
        self._room = threading.BoundedSemaphore(_CONNECTIONS)

    @staticmethod
    def uid_of(connection: socket.socket) -> int:
        """Account at the other end."""
        return pipe.peer_uid(connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether whoever connects may say anything at all."""
        del client_address
        uid = self.uid_of(request)
        if not self._allowed(uid):
            log.warning("event=stranger_refused socket=aim uid=%d group=%s", uid, TECHNICIANS)
            return False
        return self._room.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, in its own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke says nothing worth keeping."""
        del request, client_address
        log.debug("event=connection_broke")


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, or the one that systemd hands over (sd_listen_fds(3)).

    Raises:
        PipeError: it cannot be made, or another view listens there.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            if _alive(path):
                raise pipe.PipeError(errno.EADDRINUSE, f"{path}: another view is open there")
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(_CONNECTIONS)
    except OSError as error:
        listener.close()
        if isinstance(error, pipe.PipeError):
            raise
        raise pipe.PipeError(error.errno, f"{path}: cannot listen: {error.strerror}") from error
    return listener


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
