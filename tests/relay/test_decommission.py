"""The end of a device: what the broker is told, what is erased, and what happens without a broker."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from agent.cli import decommission as command
from agent.cli.app import app
from agent.contract import AuditHead, EventData, EventType
from agent.device import sealing
from agent.relay.audit import fault_of_head
from agent.relay.certificate import CertificateError, Certificates
from agent.relay.decommission import at_rest
from agent.relay.gate import Release
from agent.relay.journal import Journal
from agent.relay.keys import read_private_key
from agent.relay.process import open_journal
from agent.settings import Settings, load

if TYPE_CHECKING:
    from tests.relay.conftest import Manners, ScriptedBroker

DATA = EventData(episode="9b1e", phase="started", confidence="high", clock="synced", basis="FR-1")
SCREAM = Release(EventType.SOUND_SCREAM, DATA, "2026-11-23T12:00:00Z", alarm=True)


class Device:
    """The files of a device, all in one folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        Certificates(self.keys, "cam-07").request()
        for name in ("policy.toml", "trust.toml", "camera-1.env", "password"):
            (folder / name).write_text("# ours\n")
        (folder / "vigie.toml.d").mkdir()
        (folder / "vigie.toml.d" / "10-zone.toml").write_text("")
        (folder / "stranger.txt").write_text("of somebody else")
        self.config = folder / "vigie.toml"
        self.config.write_text(
            f'policy_file = "{folder}/policy.toml"\n[device]\nsite = "old-port"\nname = "cam-07"\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\ntls = false\nbackoff_min_s = 0.05\n'
            f'[journal]\nfolder = "{folder}/journal"\n[fleet]\ntrust_file = "{folder}/trust.toml"\n'
        )
        self.settings = load(self.config)

    def journal(self) -> Journal:
        return open_journal(self.settings)

    def decommission(self, *more: str, typed: str | None = None) -> tuple[int, Any]:
        arguments = ["decommission", "--keys", str(self.keys), "--config", str(self.config), "--json", *more]
        done = CliRunner().invoke(app, arguments, input=typed)
        found = next((json.loads(line) for line in done.output.splitlines() if line.startswith("{")), done.output)
        return done.exit_code, found

    def left(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def device(broker: ScriptedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(command, "_stop_services", lambda: None)  # those of this machine
    return Device(tmp_path, broker.port)


def test_what_waits_is_delivered_and_the_last_word_is_signed_and_retained(
    broker: ScriptedBroker, device: Device
) -> None:
    journal = device.journal()
    (event,) = journal.release([SCREAM])
    journal.close()
    key = read_private_key(device.folder / "journal" / "audit.key").public_key()
    code, found = device.decommission("--yes")
    assert (code, found["told"], found["undelivered"], found["kept"]) == (0, True, 0, [])
    alarm, status, head = broker.published()
    assert alarm.payload == event.to_json()
    assert (json.loads(status.payload)["state"], status.retain) == ("decommissioned", True)
    last = AuditHead.model_validate_json(head.payload)
    assert (last.final, head.retain, fault_of_head(last, key)) == (True, True, None)
    forged = last.model_copy(update={"final": None})
    assert fault_of_head(forged, key) is not None, "that it is the last one is signed"
    assert broker.connections[-1].said_goodbye, "so the last will is not told"


def test_keys_journal_and_configuration_are_erased_and_nothing_else(device: Device) -> None:
    device.journal().close()
    device.decommission("--yes")
    assert device.left() == {"stranger.txt", "password"}


def test_without_a_broker_it_is_done_all_the_same_and_said(broker: ScriptedBroker, device: Device) -> None:
    kind: type[Manners] = type(broker.manners[0])
    broker.manners = [kind(greeting="hang_up")]
    journal = device.journal()
    journal.release([SCREAM])
    journal.close()
    code, found = device.decommission("--yes", "--wait-s", "1")
    assert (code, found["told"], found["undelivered"]) == (3, False, 1)
    assert found["reason"]
    assert device.left() == {"stranger.txt", "password"}


def test_nothing_is_erased_under_a_running_agent(device: Device) -> None:
    journal = device.journal()
    before = device.left()
    code, said = device.decommission("--yes")
    assert (code, "stop the agent" in said) == (3, True)
    journal.close()
    assert device.left() >= before - {"journal/journal.sqlite-wal", "journal/journal.sqlite-shm"}


def test_it_asks_for_the_name_of_the_device(device: Device) -> None:
    before = device.left()
    assert device.decommission(typed="cam-08\n")[0] == 2
    assert device.left() == before
    assert device.decommission(typed="cam-07\n")[0] == 0


def test_who_was_interrupted_begins_again(device: Device) -> None:
    device.journal().close()
    shutil.rmtree(device.keys)
    assert device.decommission("--yes")[0] == 0
    assert "vigie.toml" not in device.left()


def test_the_keys_are_found_where_they_lie_when_relay_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path, "cam-07")
    certificates.request()
    pem = certificates.private_pem()
    given = {name: f"/run/credentials/vigie-relay.service/{name}" for name in ("device.key", "device.pem", "ca.pem")}
    names = {"key_file": given["device.key"], "cert_file": given["device.pem"], "ca_file": given["ca.pem"]}
    settings = Settings.model_validate({"mqtt": names})
    assert at_rest(settings, certificates).mqtt.key_file == tmp_path / "device.key"
    monkeypatch.setattr("agent.relay.certificate.seal", lambda secret, _: secret[::-1])
    monkeypatch.setattr("agent.relay.certificate.unseal", lambda sealed, _: sealed[::-1])
    assert certificates.seal()
    assert not certificates.seal()
    assert (certificates.kept, (tmp_path / "device.key").exists()) == ("sealed", False)
    memory = at_rest(settings, certificates).mqtt.key_file
    assert memory is not None
    assert memory.read_bytes() == pem, "a sealed key is opened into memory"


def test_a_key_that_does_not_open_again_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates(tmp_path, "cam-07")
    certificates.request()
    monkeypatch.setattr("agent.relay.certificate.seal", lambda secret, _: secret)
    monkeypatch.setattr("agent.relay.certificate.unseal", lambda _, __: b"")
    with pytest.raises(CertificateError, match="the plain one stays"):
        certificates.seal()
    assert certificates.kept == "file"


def test_without_systemd_creds_a_seal_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(sealing.SealError, match="JetPack 7"):
        sealing.seal(b"key", "device.key")


def test_the_hardware_is_a_tpm_or_an_op_tee_or_nothing(tmp_path: Path) -> None:
    assert sealing.hardware(tmp_path) == "none"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "tee0").touch()
    assert sealing.hardware(tmp_path) == "op-tee"
    (tmp_path / "dev" / "tpmrm0").touch()
    assert sealing.hardware(tmp_path) == "tpm2"
