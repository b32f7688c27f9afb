"""Downloads from a real server in a thread, which breaks where a test wants it to."""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import select
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent import download
from agent.download import DownloadError, fetch

CONTENT = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@dataclass
class Shelf:
    """What the server has, how it misbehaves, and what it was asked."""

    content: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"first"'})
    ranges: bool = True
    chunked: bool = False
    #: Bytes after which the next answers are cut; then they are whole.
    cuts: list[int] = field(default_factory=list)
    #: Status and Retry-After of the next answers; then they are good.
    refusals: list[tuple[int, str]] = field(default_factory=list)
    content_range: str | None = None
    #: Path and Range of each request.
    requests: list[tuple[str, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    shelf: ClassVar[Shelf]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        shelf = self.shelf
        asked = self.headers.get("Range")
        shelf.requests.append((self.path, asked))
        if shelf.refusals:
            status, wait = shelf.refusals.pop(0)
            self.send_response(status)
            self.send_header("Retry-After", wait)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = shelf.content
        same = self.headers.get("If-Range") in {shelf.headers.get("ETag"), shelf.headers.get("Last-Modified")}
        if asked and same and shelf.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            whole = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", whole if shelf.content_range is None else shelf.content_range)
            content = content[start:]
        else:
            self.send_response(200)
        for name, value in shelf.headers.items():
            self.send_header(name, value)
        self.send_header(
            *(("Transfer-Encoding", "chunked") if shelf.chunked else ("Content-Length", str(len(content))))
        )
        self.end_headers()
        cut = shelf.cuts.pop(0) if shelf.cuts else None
        sent = content[:cut]
        self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) if shelf.chunked else sent)
        if cut is not None:
            self.close_connection = True
        elif shelf.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def do_CONNECT(self) -> None:
        """Be the proxy of an HTTPS client: pass bytes both ways until one side has no more."""
        self.shelf.requests.append((self.path, self.headers.get("Range")))
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as server:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: server, server: self.connection}
            while data := [(end, end.recv(1 << 16)) for end in select.select(list(ends), [], [])[0]]:
                if not all(received for _, received in data):
                    break
                for end, received in data:
                    ends[end].sendall(received)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@contextmanager
def serving(shelf: Shelf, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve a shelf on a port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Handler,), {"shelf": shelf}))
    server.daemon_threads = False
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Here(NamedTuple):
    """A server, and a folder to download to."""

    shelf: Shelf
    url: str
    target: Path


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    shelf = Shelf()
    with serving(shelf) as port:
        yield Here(shelf, f"http://127.0.0.1:{port}/spotter.onnx", tmp_path / "models" / "spotter.onnx")


def get(here: Here, *sources: str, size: int | None = SIZE, pauses: list[float] | None = None) -> str:
    told: list[tuple[int, int | None]] = []
    waited = pauses if pauses is not None else []
    source = fetch(sources or (here.url,), here.target, SHA256, size, lambda *far: told.append(far), waited.append)
    assert told[-1][0] == SIZE
    return source


def ranges(shelf: Shelf) -> list[str | None]:
    return [asked for _, asked in shelf.requests]


def left(here: Here) -> list[str]:
    return sorted(path.name for path in here.target.parent.iterdir())


def test_a_file_comes_whole_and_leaves_nothing_else(here: Here) -> None:
    assert get(here) == here.url
    assert here.target.read_bytes() == CONTENT
    assert here.target.stat().st_mode & 0o777 == 0o644
    assert left(here) == ["spotter.onnx"]


def test_progress_counts_the_bytes_that_are_here(here: Here) -> None:
    told: list[tuple[int, int | None]] = []
    fetch([here.url], here.target, SHA256, None, lambda have, total: told.append((have, total)))
    assert told[0] == (0, SIZE)
    assert told[-1] == (SIZE, SIZE)
    assert told == sorted(told)


def test_a_cut_connection_is_taken_up_where_it_broke(here: Here) -> None:
    here.shelf.cuts = [100_000, 50_000]
    pauses: list[float] = []
    get(here, pauses=pauses)
    assert here.target.read_bytes() == CONTENT
    assert ranges(here.shelf) == [None, "bytes=100000-", "bytes=150000-"]
    assert len(pauses) == 2


def interrupted(here: Here, after: int) -> None:
    """A run that somebody ends while it waits for its second attempt."""
    here.shelf.cuts = [after]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch([here.url], here.target, SHA256, SIZE, lambda *_: None, interrupt)


def test_a_later_run_goes_on_where_the_first_was_interrupted(here: Here) -> None:
    interrupted(here, 200_000)
    assert not here.target.exists()
    get(here)
    assert ranges(here.shelf) == [None, "bytes=200000-"]
    assert left(here) == ["spotter.onnx"]


def test_a_server_without_etag_is_asked_by_date(here: Here) -> None:
    here.shelf.headers = {"ETag": 'W/"weak"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}
    here.shelf.cuts = [100_000]
    get(here)
    assert ranges(here.shelf) == [None, "bytes=100000-"]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"ranges": False}, "bytes=100000-"),
        ({"headers": {"ETag": '"second"'}}, "bytes=100000-"),
        ({"refusals": [(416, "")]}, "bytes=100000-"),
        ({"content_range": "bytes 5-262143/262144"}, "bytes=100000-"),
        ({"content_range": ""}, "bytes=100000-"),
    ],
)
def test_what_cannot_be_resumed_starts_over(here: Here, change: dict[str, object], asked: str) -> None:
    interrupted(here, 100_000)
    for name, value in change.items():
        setattr(here.shelf, name, value)
    get(here)
    assert here.target.read_bytes() == CONTENT
    assert here.shelf.requests[1][1] == asked


def test_a_server_that_cannot_tell_versions_apart_is_asked_for_everything(here: Here) -> None:
    here.shelf.headers = {}
    here.shelf.cuts = [100_000]
    get(here)
    assert ranges(here.shelf) == [None, None]


def test_a_part_from_elsewhere_or_unreadable_is_not_resumed(here: Here) -> None:
    interrupted(here, 100_000)
    (here.target.parent / ".spotter.onnx.part.json").write_text("{")
    get(here)
    assert ranges(here.shelf) == [None, None]


def test_a_part_that_was_complete_is_only_verified(here: Here) -> None:
    here.target.parent.mkdir()
    (here.target.parent / ".spotter.onnx.part").write_bytes(CONTENT)
    fetch([here.url], here.target, SHA256, SIZE, lambda *_: None)
    assert here.target.read_bytes() == CONTENT
    assert here.shelf.requests == []


def test_an_overloaded_server_is_given_the_time_it_asks_for(here: Here) -> None:
    here.shelf.refusals = [(503, "40"), (429, "3600"), (500, "soon")]
    pauses: list[float] = []
    get(here, pauses=pauses)
    assert pauses[:2] == [40, 60]
    assert 4 <= pauses[2] <= 8


def test_pauses_grow_until_the_source_is_given_up(here: Here) -> None:
    here.shelf.refusals = [(502, "")] * 9
    pauses: list[float] = []
    with pytest.raises(DownloadError, match="the server answered 502 Bad Gateway, 5 times in a row"):
        get(here, pauses=pauses)
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses, 1))
    assert len(pauses) == 4
    assert left(here) == []


def test_attempts_that_bring_something_do_not_count(here: Here) -> None:
    here.shelf.cuts = [10_000] * 20
    get(here)
    assert len(here.shelf.requests) == 21


def test_attempts_that_bring_the_same_bytes_again_do_count(here: Here) -> None:
    here.shelf.headers = {}
    here.shelf.cuts = [10_000] * 20
    with pytest.raises(DownloadError, match=f"the connection was cut after 10000 of {SIZE} bytes, 5 times in a row"):
        get(here)


def test_a_missing_file_is_not_asked_for_again(here: Here) -> None:
    here.shelf.refusals = [(404, "")]
    with pytest.raises(DownloadError, match=rf"{here.url}: the server answered 404 Not Found$"):
        get(here)
    assert len(here.shelf.requests) == 1


def test_wrong_content_is_refused_and_replaces_nothing(here: Here) -> None:
    here.target.parent.mkdir()
    here.target.write_bytes(b"what was there")
    here.shelf.content = CONTENT[::-1]
    with pytest.raises(DownloadError) as refusal:
        get(here)
    assert "refused, nothing was replaced" in str(refusal.value)
    assert SHA256 in str(refusal.value)
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in str(refusal.value)
    assert here.target.read_bytes() == b"what was there"
    assert left(here) == ["spotter.onnx"]


def test_the_right_content_replaces_the_wrong_one(here: Here) -> None:
    here.target.parent.mkdir()
    here.target.write_bytes(b"what was there")
    get(here)
    assert here.target.read_bytes() == CONTENT


def test_another_size_is_refused_before_a_byte_is_kept(here: Here) -> None:
    here.shelf.content = b"<html>Please log in to the hotel's network</html>"
    with pytest.raises(DownloadError, match=f"it has 49 bytes there, the registry says {SIZE}"):
        get(here)


def test_more_than_was_registered_is_refused_as_it_arrives(here: Here) -> None:
    here.shelf.content, here.shelf.chunked = CONTENT * 2, True
    with pytest.raises(DownloadError, match=f"more than {SIZE} bytes arrived"):
        get(here)


def test_a_file_of_unknown_size_is_capped(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", SIZE - 1)
    with pytest.raises(DownloadError, match=r"0\.3 MB are more than the 0\.3 MB that are allowed"):
        get(here, size=None)


def test_a_stream_of_unknown_length_is_resumed_too(here: Here) -> None:
    here.shelf.chunked = True
    here.shelf.cuts = [100_000]
    get(here)
    assert ranges(here.shelf) == [None, "bytes=100000-"]


def test_a_full_disk_is_told_beforehand(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(DownloadError, match=r"models has 0\.1 MB free, 0\.3 MB are needed: make room"):
        get(here)
    assert left(here) == []


def test_a_folder_that_cannot_be_written_is_named(here: Here) -> None:
    here.target.parent.write_bytes(b"no folder")
    with pytest.raises(DownloadError, match="models: File exists"):
        get(here)


def test_a_second_run_does_not_disturb_the_first(here: Here) -> None:
    here.target.parent.mkdir()
    with (here.target.parent / ".spotter.onnx.part").open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match=r"spotter\.onnx: is being fetched by another run"):
            get(here)


def test_sources_are_asked_in_turn(here: Here, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror with spaces" / "spotter.onnx"
    assert get(here, mirror.as_uri(), here.url) == here.url
    mirror.parent.mkdir()
    mirror.write_bytes(CONTENT)
    assert get(here, mirror.as_uri(), here.url) == mirror.as_uri()
    mirror.write_bytes(CONTENT[::-1])
    assert get(here, mirror.as_uri(), here.url) == here.url
    assert here.target.read_bytes() == CONTENT


def test_every_source_that_failed_is_named(here: Here, tmp_path: Path) -> None:
    here.shelf.refusals = [(403, "")]
    with pytest.raises(DownloadError) as failure:
        get(here, (tmp_path / "spotter.onnx").as_uri(), here.url)
    assert "No such file or directory" in str(failure.value)
    assert "403 Forbidden" in str(failure.value)


def test_nobody_answers(here: Here) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/spotter.onnx"
        with pytest.raises(DownloadError, match="no connection: Connection refused, 5 times in a row"):
            get(here, url)


def test_http_goes_through_the_proxy(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", here.url.removesuffix("/spotter.onnx"))
    get(here, "http://models.invalid/spotter.onnx")
    assert here.shelf.requests == [("http://models.invalid/spotter.onnx", None)]


def test_a_host_named_in_no_proxy_is_reached_directly(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    get(here)
    assert here.shelf.requests == [("/spotter.onnx", None)]


def test_a_proxy_that_cannot_be_used_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:many")
    with pytest.raises(DownloadError, match="its address or the proxy's cannot be used"):
        get(here)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(signed.public_bytes(pem) + private)
    return path


@pytest.fixture
def secure(certificate: Path, tmp_path: Path) -> Iterator[Here]:
    """A server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    shelf = Shelf()
    with serving(shelf, context) as port:
        yield Here(shelf, f"https://localhost:{port}/spotter.onnx", tmp_path / "models" / "spotter.onnx")


def test_https_goes_through_the_proxy_without_its_reading_along(
    here: Here, secure: Here, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", here.url.removesuffix("/spotter.onnx"))
    secure.shelf.cuts = [100_000]
    get(secure)
    assert secure.target.read_bytes() == CONTENT
    assert ranges(secure.shelf) == [None, "bytes=100000-"]
    host = secure.url.removeprefix("https://").removesuffix("/spotter.onnx")
    assert here.shelf.requests == [(host, None), (host, None)]


def test_a_server_without_a_trusted_certificate_is_not_asked_twice(secure: Here) -> None:
    pauses: list[float] = []
    with pytest.raises(DownloadError, match=r"certificate is not trusted: self.signed certificate"):
        get(secure, pauses=pauses)
    assert pauses == []
    assert secure.shelf.requests == []
