"""The whole agent on marked footage, then a search of all it wrote and sent: nothing of picture or sound is left."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container import NEEDS, Container, container, require_container
from parts import SQUARE, Subscriber, mosquitto, subscriber, wait_for
from residue import found_in, found_in_database, marked_clip, marked_sound, texts
from wiretap import Wiretap, wiretap

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

CONFIGURATION = (
    """
log_level = "debug"
[device]
site = "rig"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
port = {port}
tls = false
[pipe]
sense_user = "vigie-sense"
[microphone]
source = "file:/srv/marked/sound.wav"
loop = true
[[microphone.rule]]
type = "sound.gunshot"
[[camera]]
name = "north"
source = "file:/srv/marked/clip.mp4"
loop = true
"""
    + SQUARE
    + """\
[[camera.rule]]
type = "crowd.density"
zone = "square"
[[camera.rule]]
type = "person.loitering"
zone = "square"
dwell_s = 5
"""
)
ENTRY = """
[[policy.detector]]
type = "{type}"
purpose = "Proof that nothing is left"
legal_basis = "RIG"
body = "The rig"
contact = "The rig"
retention_days = 1
below_flow = "The rig"
until = {until}
"""


class Run:
    """The agent on marked footage, in its container, and who listens to it."""

    def __init__(self, inside: Container, tap: Wiretap, reader: Subscriber) -> None:
        self.inside = inside
        self.tap = tap
        self.reader = reader

    def written(self) -> Iterator[Path]:
        """Every file inside that was made or changed since the agent was started."""
        wanted = ("find", "/", *PRUNED, "-type", "f", "-newer", "/run/before", "-print0")
        for name in self.inside.run(*wanted, check=False).stdout.split("\0"):
            if name:
                yield self.inside.outside(name)

    def processes(self) -> list[str]:
        """Process ids of sense and relay, inside."""
        return [self.inside.show(f"vigie-{half}.service", "MainPID")[0] for half in ("sense", "relay")]


#: What is no file of anybody: the kernel's own, and what was put there from outside.
PRUNED = (
    "(",
    "-path",
    "/proc",
    "-o",
    "-path",
    "/sys",
    "-o",
    "-path",
    "/srv",
    "-o",
    "-path",
    "/opt",
    ")",
    "-prune",
    "-o",
)


@pytest.fixture(scope="module")
def run(require: Callable[..., None], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    require(*NEEDS, "mosquitto")
    require_container()
    folder = tmp_path_factory.mktemp("residue")
    footage = folder / "marked"
    footage.mkdir(mode=0o755)
    marked_clip(data / "clips" / "pets2009_s2l1.mp4", footage / "clip.mp4", 20)
    scream = next(iter(sorted((data / "audio" / "scream").glob("*.ogg"))))
    marked_sound(scream, footage / "sound.wav")
    with (
        mosquitto(folder / "broker") as broker,
        subscriber(broker.port) as reader,
        wiretap(broker.port) as tap,
        container(folder / "container", [f"{footage}:/srv/marked"]) as inside,
    ):
        for name in ("ca.pem", "device.pem", "device.key"):
            inside.write(f"etc/vigie/keys/{name}", "not used here\n", 0o600)
        until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=90)
        types = ("crowd.gathering", "crowd.density", "person.loitering", "sound.gunshot")
        policy = "[policy.gate]\nk = 1\ncrowd_grain_s = 2\ngrain_s = 2\n"
        policy += "".join(ENTRY.format(type=label, until=until) for label in types)
        inside.write("etc/vigie/vigie.toml", CONFIGURATION.format(port=tap.port))
        inside.write("etc/vigie/policy.toml", policy)
        inside.run("sh", "-c", "sleep 1.1 && touch /run/before")
        inside.run("systemctl", "start", "vigie.target")
        try:
            wait_for(lambda: len(reader.events()) >= 3, 90, "events of the marked clip")
            heard = "sensor=microphone event=live"
            log = ("journalctl", "-q", "--no-pager", "-u", "vigie-sense")
            wait_for(lambda: heard in inside.run(*log).stdout, 60, "the marked sound is heard")
        except BaseException:
            print(inside.run("journalctl", "-q", "--no-pager", "-n", "60", "-u", "vigie-*").stdout)  # noqa: T201
            raise
        yield Run(inside, tap, reader)


def test_the_footage_is_marked(run: Run) -> None:
    found = found_in(run.inside.outside("/srv/marked/sound.wav").read_bytes()[:50_000])
    assert {"the word of the metadata", "the chips of the sound", "the magic number of WAV"} <= set(found)
    clip = run.inside.outside("/srv/marked/clip.mp4").read_bytes()
    assert "bytes that are as good as random" in found_in(clip[:50_000])
    assert "the word of the metadata" in found_in(clip[-50_000:]), "MP4 has its metadata at the end"


def test_nothing_is_left_in_any_file(run: Run, tmp_path: Path) -> None:
    searched = set()
    for file in run.written():
        content = file.read_bytes()
        inside = "/" + str(file).split("/root/", 1)[1]
        searched.add(inside)
        assert not inside.startswith("/run/vigie-sense/"), "sense writes nothing at all, nor does any library of its"
        if content.startswith(b"SQLite format 3"):
            copies = [shutil.copy(f, tmp_path) for f in file.parent.glob(f"{file.name}*")]
            assert copies
            assert found_in_database(tmp_path / file.name) == [], inside
        else:
            journald = file.suffix == ".journal"
            packed = journald or file.name.endswith(("-wal", "-shm"))
            assert found_in(content, packed=packed) == [], inside
    assert any(name.endswith("/journal.sqlite") for name in searched), searched
    assert any(name.endswith(".journal") for name in searched), searched


def test_nothing_is_left_in_the_log(run: Run) -> None:
    said = run.inside.run("journalctl", "-q", "--no-pager", "-o", "cat", "-u", "vigie-*").stdout
    assert "event=ready" in said
    assert found_in(said.encode()) == []


def test_nothing_leaves_over_the_wire(run: Run) -> None:
    sent = bytes(run.tap.sent)
    assert b"vigie/v1/rig/cam-07/event/" in sent
    assert found_in(sent, packed=True) == []
    for topic, payload in run.reader.raw():
        assert found_in(payload) == [], topic
        assert texts(payload) == [], topic


def test_nothing_is_left_about_the_processes(run: Run) -> None:
    for pid in run.processes():
        for name in ("environ", "cmdline"):
            assert found_in(run.inside.outside(f"/proc/{pid}/{name}").read_bytes()) == []
        links = run.inside.run("sh", "-c", f"readlink /proc/{pid}/fd/*").stdout.splitlines()
        assert not [link for link in links if "(deleted)" in link or "memfd:" in link]


def test_a_stopped_agent_leaves_no_more(run: Run) -> None:
    run.inside.run("systemctl", "stop", "vigie.target", "vigie-sense", "vigie-relay")
    left = {"/" + str(file).split("/root/", 1)[1] for file in run.written()}
    ours = {name for name in left if "vigie" in name and not name.startswith("/var/lib/vigie/")}
    assert {name for name in ours if not name.startswith(("/run/credentials", "/run/systemd"))} == set()
    assert "/var/lib/vigie/journal.sqlite" in left
