"""The technician's view as its unit, under a real systemd: who may start it, what waits, what it leaves behind."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from container import NEEDS, Container, container, require_container
from parts import wait_for
from test_sandbox import ENTRY

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

VIGIE = "/opt/vigie/current/bin/vigie"
CONFIGURATION = """
[device]
site = "rig"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
port = 1
tls = false
[pipe]
sense_user = "vigie-sense"
[[camera]]
name = "north"
source = "file:/srv/clip.mp4"
loop = true
fps = 2
[[camera.zone]]
name = "square"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
[[camera.rule]]
type = "crowd.gathering"
zone = "square"
"""
#: What a browser does behind `ssh -L`, in the technician's account: look, save a zone, close the view.
BROWSER = """
import http.client, json, socket, sys

class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/vigie/aim.sock")

def ask(method, path, body=None, **more):
    browser = Unix("localhost:8080")
    browser.request(method, path, body, {"Origin": "http://localhost:8080", "Content-Type": "application/json", **more})
    answer = browser.getresponse()
    return answer, answer.read().decode()

answer, _ = ask("GET", "/?token=" + sys.argv[1])
cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
_, view = ask("GET", "/view", **cookie)
ramp = {"name": "ramp", "polygon": [[0.1, 0.6], [0.3, 0.6], [0.3, 0.9]]}
square = {"was": "square", "name": "square", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
saved, text = ask("POST", "/zones", json.dumps({"camera": "north", "zones": [square, ramp]}), **cookie)
print(json.dumps({"view": json.loads(view), "saved": saved.status, "text": text}))
ask("POST", "/end", "{}", **cookie)
"""


@pytest.fixture(scope="module")
def inside(require: Callable[..., None], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    require(*NEEDS)
    require_container()
    clip = data / "clips" / "pets2009_s2l1.mp4"
    with container(tmp_path_factory.mktemp("aim") / "container", [f"{clip}:/srv/clip.mp4"]) as booted:
        for name in ("ca.pem", "device.pem", "device.key"):
            booted.write(f"etc/vigie/keys/{name}", "", 0o600)
        booted.write("etc/vigie/vigie.toml", CONFIGURATION)
        until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=90)
        booted.write("etc/vigie/policy.toml", ENTRY.format(type="crowd.gathering", until=until))
        booted.run("useradd", "-G", "vigie-tech", "tech")
        booted.run("useradd", "other")
        booted.run("systemctl", "start", "vigie.target", "vigie-aim.socket")
        yield booted
        print(booted.run("journalctl", "-q", "--no-pager", "-n", "100", "-u", "vigie*").stdout)  # noqa: T201


def active(inside: Container, unit: str) -> bool:
    return inside.show(unit, "ActiveState") == ["active"]


def aiming(inside: Container) -> list[dict[str, Any]]:
    """What the audit log says of views."""
    program = (
        "import json, sqlite3\n"
        "database = sqlite3.connect('file:/var/lib/vigie/journal.sqlite?mode=ro', uri=True)\n"
        "rows = database.execute(\"SELECT body FROM audit WHERE kind = 'aiming'\").fetchall()\n"
        "print(json.dumps([json.loads(body) for (body,) in rows]))"
    )
    found: list[dict[str, Any]] = json.loads(inside.run("python3", "-c", program).stdout)
    return found


def test_the_unit_has_no_mistake_and_little_exposure(inside: Container) -> None:
    assert inside.run("systemd-analyze", "verify", "vigie-aim.service").stderr == ""
    said = inside.run("systemd-analyze", "security", "--no-pager", "vigie-aim.service").stdout
    found = re.search(r"Overall exposure level for .*: (\d+\.\d) ", said)
    assert found
    assert float(found[1]) <= 1.2, said


def test_a_technician_alone_opens_it_and_sense_waits(inside: Container) -> None:
    wait_for(lambda: active(inside, "vigie-sense.service"), 60, "sense runs")
    for account in ("other", "vigie-relay", "vigie-sense"):
        refused = inside.run("runuser", "-u", account, "--", VIGIE, "aim", check=False)
        assert refused.returncode == 3
        assert "group vigie-tech" in refused.stderr
    assert not active(inside, "vigie-aim.service")

    opened = inside.run("runuser", "-u", "tech", "--", VIGIE, "aim")
    token = opened.stdout.strip().partition("token=")[2]
    assert token
    assert active(inside, "vigie-aim.service")
    assert not active(inside, "vigie-sense.service")
    seen = json.loads(inside.run("runuser", "-u", "tech", "--", "python3", "-c", BROWSER, token).stdout)
    assert seen["saved"] == 200, seen["text"]
    assert [camera["name"] for camera in seen["view"]["cameras"]] in ([], ["north"])

    wait_for(lambda: active(inside, "vigie-sense.service"), 60, "sense is back")
    wait_for(lambda: not active(inside, "vigie-aim.service"), 20, "the view is closed")
    assert inside.run("ls", "/run/vigie-aim", check=False).stdout == ""
    wait_for(lambda: len(aiming(inside)) == 4, 20, "all is recorded")
    assert aiming(inside) == [
        {"state": "begin", "by": "vigie-aim", "minutes": 10},
        {"state": "look", "by": "tech"},
        {"state": "save", "by": "tech"},
        {"state": "end"},
    ]
    zones = json.loads(inside.run(VIGIE, "zones", "show", "--json").stdout)[0]["zones"]
    assert [zone["name"] for zone in zones] == ["square", "ramp"]
    kept = "/var/lib/vigie/configuration.json"
    wait_for(lambda: json.loads(inside.run("cat", kept).stdout)["local_version"] == 2, 40, "relay has begun anew")


def test_a_view_that_is_open_when_the_agent_is_stopped_does_not_bring_sense_back(inside: Container) -> None:
    inside.run("systemctl", "start", "vigie.target")
    wait_for(lambda: active(inside, "vigie-relay.service"), 60, "relay runs")
    inside.run("runuser", "-u", "tech", "--", VIGIE, "aim")
    inside.run("systemctl", "stop", "vigie.target")
    wait_for(lambda: not active(inside, "vigie-relay.service"), 30, "relay is stopped")
    wait_for(lambda: not active(inside, "vigie-aim.service"), 30, "the view has gone with it")
    assert not active(inside, "vigie-sense.service")
