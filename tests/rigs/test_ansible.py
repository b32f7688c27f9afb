"""The playbooks on a site of fresh machines: an integrator's first day, and releases good and bad, over real SSH.

Three devices and a broker are containers under a real systemd (`devices.py`), without a package index. Releases are
bundles of this checkout; the bad ones differ from it by the line that makes them bad.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from container import NEEDS, require_container
from device import Maker
from devices import NEEDS as SITE_NEEDS
from devices import Site
from parts import Subscriber, handshake, wait_for

from agent import __version__
from agent.device.bundle import SIGNATURE
from agent.fleet.pki import Authority
from deploy.bundle import recipe

pytestmark = [pytest.mark.rig, pytest.mark.long, pytest.mark.timeout(1800)]

CHECKOUT = Path(__file__).parents[2]
PLAYBOOKS = CHECKOUT / "ansible"
DEVICES = ("cam-01", "cam-02", "cam-03")
CANARY, OTHERS = "cam-02", ("cam-01", "cam-03")
GOOD, CRASHES, HANGS, FORGED, HUGE = (
    f"{__version__}+{name}" for name in ("good", "crashes", "hangs", "forged", "huge")
)
VIGIE = "/opt/vigie/current/bin/vigie"
POLICY = """
[policy.gate]
k = 1
crowd_grain_s = 2
"""
ENTRY = """
[[policy.detector]]
type = "{type}"
purpose = "Proof of the playbooks"
legal_basis = "RIG"
body = "The rig"
contact = "The rig"
retention_days = 1
until = {until}
"""
CAMERA = {
    "name": "north",
    "source": "file:/srv/clip.mp4",
    "fps": 2,
    "loop": True,
    "zone": [{"name": "square", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}],
    "rule": [
        {"type": "crowd.gathering", "zone": "square", "min_persons": 3, "hold_s": 1},
        {"type": "crowd.density", "zone": "square"},
    ],
}


@dataclass(frozen=True)
class Played:
    """How a playbook ended.

    Attributes:
        code: Exit code.
        text: What it printed.
        recap: By machine, what Ansible counted.
    """

    code: int
    text: str
    recap: dict[str, dict[str, int]]


@dataclass
class Integrator:
    """Whoever provisions the site, at the control machine."""

    folder: Path
    site: Site
    reader: Subscriber | None = None
    first_check: Played | None = None
    provisioned: Played | None = None

    def play(self, playbook: str, *options: str, **variables: Any) -> Played:
        """Run a playbook."""
        command = ["ansible-playbook", str(PLAYBOOKS / playbook), "-i", str(self.folder / "hosts.json"), *options]
        done = subprocess.run(
            [*command, "-e", json.dumps(variables)],
            cwd=PLAYBOOKS,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
            env={**os.environ, "PATH": _path(), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(self.folder / "ansible")},
        )
        recap = {
            name: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", counts)}
            for name, counts in re.findall(r"^(\S+)\s+: (ok=.*)$", done.stdout.partition("PLAY RECAP")[2], re.MULTILINE)
        }
        print(done.stdout, done.stderr)  # noqa: T201
        return Played(done.returncode, done.stdout + done.stderr, recap)

    def on(self, name: str, command: str) -> str:
        """What a command prints on a machine."""
        done = self.site.ssh(name, command)
        assert done.returncode == 0, done
        return done.stdout

    def slots(self, name: str) -> dict[str, Any]:
        """What `vigie update status` says."""
        found: dict[str, Any] = json.loads(self.on(name, f"sudo {VIGIE} update status --json"))
        return found

    def events(self, name: str) -> list[str]:
        """Ids of a device's events so far."""
        assert self.reader is not None
        return [payload["id"] for topic, payload in list(self.reader.messages) if f"/{name}/event/" in topic]

    def released(self, name: str) -> set[str]:
        """Ids of the events that a device's audit log has as released."""
        program = (
            "import sqlite3; print(*(row[0] for row in sqlite3.connect('file:/var/lib/vigie/journal.sqlite?mode=ro', "
            "uri=True).execute('SELECT event_id FROM audit WHERE kind = \"released\"')))"
        )
        return set(self.on(name, f"sudo python3 -c {shlex.quote(program)}").split())

    def footprint(self, name: str) -> str:
        """What changes on a device as soon as anything of its releases is touched, or the agent is started anew."""
        return self.on(
            name,
            "ls -l --time-style=full-iso /opt/vigie /opt/vigie/releases; ls -A /var/tmp; "
            "systemctl show -P MainPID vigie-relay vigie-sense",
        )

    def sends(self, name: str, *, seconds: float = 120) -> None:
        """Wait until a device sends another event."""
        before = len(self.events(name))
        wait_for(lambda: len(self.events(name)) > before, seconds, f"{name} sends an event")


def _path() -> str:
    """Where Ansible is: an environment of its own, or this machine's."""
    return f"{Path(sys.prefix) / 'ansible' / 'bin'}:{os.environ.get('PATH', os.defpath)}"


@pytest.fixture(scope="module")
def integrator(
    require: Callable[..., None], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Integrator]:
    if shutil.which("ansible-playbook", path=_path()) is None:
        require("ansible-playbook")
    require(*NEEDS, *SITE_NEEDS)
    require_container()
    folder = tmp_path_factory.mktemp("integrator")
    site = Site(folder)
    it = Integrator(folder, site)
    control = folder / "vigie"
    control.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m agent "$@"\n')
    control.chmod(0o755)
    authority = Authority.make(folder / "ca", "rig authority")
    cert, key = authority.issue("manager", "rig", folder / "manager")
    until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=90)
    entries = [ENTRY.format(type=label, until=until) for label in ("crowd.gathering", "crowd.density")]
    (folder / "policy.toml").write_text(POLICY + "".join(entries))
    vigie = [str(control), "fleet", "keys"]
    subprocess.run([*vigie, "make", str(folder / "room.pem")], check=True)
    trusted = ["--role", "operate", "--name", "control room", "--trust-file", str(folder / "trust.toml")]
    subprocess.run([*vigie, "trust", str(folder / "room.pem.pub"), *trusted], check=True)
    maker = Maker(folder / "maker")
    bundles = make_releases(maker)
    clip = data / "clips" / "pets2009_s2l1.mp4"
    with site.open(["broker", *DEVICES], 2500, {"broker": TIME_SERVER}, [f"{clip}:/srv/clip.mp4"]):
        (folder / "hosts.json").write_text(json.dumps(inventory(it, control, bundles, maker.public)))
        assert it.play("broker.yml").code == 0
        tls = (folder / "ca" / "ca.pem", cert, key)
        it.reader = Subscriber(8883, tls=tls, host=site.machines["broker"].address)
        try:
            it.first_check = it.play("site.yml", "--check", "--diff")
            it.provisioned = it.play("site.yml")
            yield it
        finally:
            it.reader.stop()


#: What makes the broker's machine the clock of a site without another one.
TIME_SERVER = {"etc/chrony/conf.d/site.conf": "local stratum 8\nallow\n"}


def inventory(it: Integrator, control: Path, bundles: Path, release_key: Path) -> dict[str, Any]:
    """The site as Ansible reads it."""
    devices = {name: it.site.inventory_of(name) for name in DEVICES}
    broker = {**it.site.inventory_of("broker"), "vigie_broker_hosts": ["broker", it.site.machines["broker"].address]}
    variables = {
        "vigie_command": str(control),
        "vigie_pki_folder": str(it.folder / "ca"),
        "jetson_base_platform": "generic",
        "jetson_base_ntp_servers": ["broker"],
        "vigie_agent_release": __version__,
        "vigie_agent_bundles": str(bundles),
        "vigie_agent_release_keys": [str(release_key)],
        "vigie_agent_site": "old-port",
        "vigie_agent_broker_host": "broker",
        "vigie_agent_policy_file": str(it.folder / "policy.toml"),
        "vigie_agent_trust_file": str(it.folder / "trust.toml"),
        "vigie_agent_technicians": ["integrator"],
        "vigie_agent_cameras": [CAMERA],
        "vigie_agent_settings": {"mqtt": {"backoff_max_s": 2}},
        "vigie_rollout_watch_s": 0,
    }
    return {
        "all": {
            "children": {
                "vigie_brokers": {"hosts": {"broker": broker}},
                "vigie_devices": {"children": {"site_old_port": {"hosts": devices}}},
                "vigie_canary": {"hosts": {CANARY: {}}},
            },
            "vars": variables,
        }
    }


#: Of the loop of sense, what comes before each turn.
_TURN = "        self._wake.clear()\n"


def make_releases(maker: Maker) -> Path:
    """Build a whole bundle of this checkout, and small ones for roll-outs (devices.py); the folder they are in."""
    bundles = maker.bundle(maker.tree(__version__, models=True), packages=True).parent
    maker.bundle(maker.tree(GOOD, models=True))
    for version, old, new in (
        (CRASHES, 'notify("READY=1")\n', 'raise RuntimeError("planted")\n'),
        (HANGS, _TURN, f"{_TURN}        while self._analysed > 5 and not self._stop:\n            {_TURN.lstrip()}"),
    ):
        tree = maker.tree(version, models=True)
        sense = tree / "agent" / "sense.py"
        text = sense.read_text()
        assert old in text, f"sense has no {old!r} to plant a fault in"
        sense.write_text(text.replace(old, new))
        maker.bundle(tree)
    forged = maker.bundle(maker.tree(FORGED))
    with tarfile.open(forged) as tar:
        place = tar.getmember(SIGNATURE).offset_data
    content = bytearray(forged.read_bytes())
    content[place] ^= 1
    forged.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "_room", lambda _wheel: 1 << 40)
        maker.bundle(maker.tree(HUGE))
    return bundles


def test_three_fresh_devices_tell_their_birth_and_send_an_event(integrator: Integrator) -> None:
    played = integrator.provisioned
    assert played is not None
    assert played.code == 0
    reader = integrator.reader
    assert reader is not None
    for name in DEVICES:
        wait_for(lambda n=name: integrator.events(n), 120, f"{name} sends an event")  # type: ignore[misc]
        births = [payload for topic, payload in list(reader.messages) if topic == f"vigie/v1/old-port/{name}/birth"]
        assert births
        assert integrator.slots(name)["running"] == __version__
        assert integrator.on(name, "sudo stat -c %a:%U /etc/vigie/keys/device.key") == "600:root\n"
        assert "vigie-release" not in integrator.on(name, "ls -A /var/tmp")
        assert "vigie-tech" in integrator.on(name, "groups")
        assert "control room" in integrator.on(name, "cat /etc/vigie/trust.toml")


def test_a_second_run_changes_nothing(integrator: Integrator) -> None:
    played = integrator.play("site.yml")
    assert played.code == 0
    assert {name: counts["changed"] for name, counts in played.recap.items()} == dict.fromkeys(DEVICES, 0)


def test_the_first_check_told_what_would_change(integrator: Integrator) -> None:
    check, real = integrator.first_check, integrator.provisioned
    assert check is not None
    assert real is not None
    assert check.code == 0
    for name in DEVICES:
        assert check.recap[name]["changed"] > 10


@pytest.fixture(scope="module")
def rolled_out(integrator: Integrator) -> Played:
    """How a good release went to all devices."""
    return integrator.play("rollout.yml", vigie_agent_release=GOOD, vigie_agent_hold_s=10)


def test_a_good_release_goes_to_the_canary_first_and_loses_no_event(integrator: Integrator, rolled_out: Played) -> None:
    assert rolled_out.code == 0
    batches = [set(re.findall(r"\[(cam-\d+)\]", text)) for text in rolled_out.text.split("PLAY [")[1:]]
    assert batches[0] == {CANARY}
    assert set().union(*batches[1:]) == set(OTHERS)
    for name in DEVICES:
        state = integrator.slots(name)
        assert (state["phase"], state["running"], state["previous"]) == ("settled", GOOD, __version__)
        assert set(state["whole"]) == {__version__, GOOD}
        integrator.sends(name)
        wait_for(
            lambda n=name: integrator.released(n) <= set(integrator.events(n)),  # type: ignore[misc]
            60,
            f"every event that {name} released has come",
        )


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        (CRASHES, r"vigie-sense\.service failed|not within 60 s"),
        (HANGS, "not within 60 s"),
        (FORGED, "the signature is not that of key"),
        (HUGE, "make room, nothing has been changed"),
    ],
)
def test_a_bad_release_stops_at_the_canary_which_goes_back(integrator: Integrator, release: str, reason: str) -> None:
    good = integrator.slots(CANARY)["running"]
    before = {name: integrator.footprint(name) for name in OTHERS}
    played = integrator.play("rollout.yml", vigie_agent_release=release, vigie_agent_within_s=60, vigie_agent_hold_s=40)
    assert played.code != 0
    assert set(played.recap) == {CANARY}
    assert re.search(reason, played.text)
    assert {name: integrator.footprint(name) for name in OTHERS} == before
    state = integrator.slots(CANARY)
    assert (state["phase"], state["running"]) == ("settled", good)
    assert release not in state["whole"]
    integrator.sends(CANARY)


def test_the_release_before_comes_back_on_request(integrator: Integrator, rolled_out: Played) -> None:
    assert rolled_out.code == 0
    name = OTHERS[0]
    played = integrator.play(
        "rollback.yml", vigie_agent_release=__version__, vigie_rollout_hosts=name, vigie_agent_hold_s=5
    )
    assert played.code == 0
    state = integrator.slots(name)
    assert (state["phase"], state["running"], state["previous"]) == ("settled", __version__, GOOD)


def test_a_diagnosis_is_one_file_for_each_device_without_content(integrator: Integrator, tmp_path: Path) -> None:
    assert integrator.play("diagnose.yml", vigie_diagnose_folder=str(tmp_path / "reports")).code == 0
    reports = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "reports").glob("*.json")}
    assert set(reports) == set(DEVICES)
    for report in reports.values():
        assert report["update"]["phase"] == "settled"
        assert {check["subject"] for check in report["doctor"]["checks"]} >= {"camera", "broker", "clock"}


def test_a_certificate_that_ends_soon_is_renewed_on_the_way(integrator: Integrator) -> None:
    name = OTHERS[1]
    look = "sudo openssl x509 -noout -serial -in /etc/vigie/keys/device.pem"
    before = integrator.on(name, look)
    assert integrator.play("site.yml", "--limit", name, vigie_certificate_renew_days=10_000).code == 0
    assert integrator.on(name, look) != before
    integrator.sends(name)


def test_a_device_that_is_decommissioned_is_erased_and_shut_out(integrator: Integrator, tmp_path: Path) -> None:
    name = OTHERS[1]
    address = integrator.site.machines["broker"].address
    for file in ("device.pem", "device.key"):
        (tmp_path / file).write_text(integrator.on(name, f"sudo cat /etc/vigie/keys/{file}"))
    stolen = ssl.create_default_context(cafile=integrator.folder / "ca" / "ca.pem")
    stolen.load_cert_chain(tmp_path / "device.pem", tmp_path / "device.key")
    handshake(8883, stolen, address)
    assert integrator.play("decommission.yml", vigie_decommission=name).code == 0
    assert integrator.on(name, "sudo find /etc/vigie/keys /var/lib/vigie -type f 2>/dev/null; true") == ""
    assert integrator.reader is not None
    words = [payload["state"] for topic, payload in integrator.reader.messages if topic.endswith(f"/{name}/status")]
    assert words[-1] == "decommissioned"
    assert integrator.play("broker.yml").code == 0
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(8883, stolen, address)
    integrator.sends(CANARY)
