"""The device's key and certificate: what is installed, what is refused, and when a new one is due."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.cli.app import app
from agent.fleet.pki import Authority
from agent.relay.certificate import CertificateError, Certificates

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.timezone.utc)


class Site:
    """An authority and a device with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.authority = Authority.make(folder / "ca", "the authority", now=lambda: self.now)
        self.ca = (folder / "ca" / "ca.pem").read_bytes()
        self.keys = folder / "keys"
        self.device = Certificates(self.keys, "cam-07", lambda: self.now)

    def sign(self, *, again: bool = False, days: int = 90) -> bytes:
        return self.authority.sign_request("device", self.device.request(), days=days, again=again)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_key_is_made_once_and_its_request_names_the_device(site: Site) -> None:
    asked = x509.load_pem_x509_csr(site.device.request())
    assert asked.is_signature_valid
    assert [str(attribute.value) for attribute in asked.subject] == ["cam-07"]
    key = (site.keys / "device.key").read_bytes()
    assert (site.keys / "device.key").stat().st_mode & 0o777 == 0o600
    assert site.keys.stat().st_mode & 0o777 == 0o700
    site.device.request()
    assert (site.keys / "device.key").read_bytes() == key


def test_from_no_key_to_a_certificate_that_is_renewed_with_the_same_key(site: Site) -> None:
    assert site.device.standing().state == "no key"
    site.device.request()
    assert site.device.standing().state == "no certificate"
    assert site.device.install(site.sign(), site.ca)
    standing = site.device.standing()
    assert (standing.state, standing.reason, standing.name) == ("valid", "", "cam-07")
    assert (standing.until, standing.renew_from) == ("2027-02-25T12:00:00Z", "2027-01-26T11:40:00Z")
    assert standing.serial == site.authority.issued()[0].serial
    site.now += dt.timedelta(days=61)
    assert site.device.standing().state == "renew"
    assert site.device.install(site.sign(again=True))
    assert site.device.standing().state == "valid"
    site.now += dt.timedelta(days=91)
    assert site.device.standing().state == "expired"


def test_the_same_certificate_changes_nothing(site: Site) -> None:
    certificate = site.sign()
    assert site.device.install(certificate, site.ca)
    assert not site.device.install(certificate, site.ca)


def test_a_certificate_that_does_not_fit_is_refused_and_the_old_one_stays(site: Site, tmp_path: Path) -> None:
    site.device.install(site.sign(), site.ca)
    before = (site.keys / "device.pem").read_bytes()
    stranger = Certificates(tmp_path / "other", "cam-07", lambda: site.now)
    namesake = Certificates(site.keys, "cam-08", lambda: site.now)
    second = Authority.make(tmp_path / "ca-2", "another authority", now=lambda: site.now)
    server = site.authority.sign_request("server", site.device.request(), again=True)
    for certificate, reason in (
        (site.authority.sign_request("device", stranger.request(), again=True), "not for the key"),
        (site.authority.sign_request("device", namesake.request()), "is for 'cam-08'"),
        (second.sign_request("device", site.device.request()), "not issued by this authority"),
        (server, "not for a client"),
        (b"nonsense", "no certificate"),
    ):
        with pytest.raises(CertificateError, match=reason):
            site.device.install(certificate)
    assert (site.keys / "device.pem").read_bytes() == before


def test_a_certificate_is_not_installed_by_a_clock_of_1970(site: Site) -> None:
    certificate = site.sign()
    site.now = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    with pytest.raises(CertificateError, match="1970"):
        site.device.install(certificate, site.ca)
    assert not (site.keys / "device.pem").exists()


def test_a_certificate_is_not_early_until_the_clock_is_set_back(site: Site) -> None:
    site.device.install(site.sign(), site.ca)
    site.now = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    standing = site.device.standing()
    assert (standing.state, "clock" in standing.reason) == ("early", True)


def test_another_device_s_name_or_a_new_key_makes_it_unfit(site: Site) -> None:
    site.device.install(site.sign(), site.ca)
    assert Certificates(site.keys, "cam-08", lambda: site.now).standing().state == "unfit"
    (site.keys / "device.key").unlink()
    site.device.request()
    assert site.device.standing().state == "unfit"


def test_an_authority_that_changes_is_trusted_beside_the_old_one(site: Site, tmp_path: Path) -> None:
    site.device.install(site.sign(), site.ca)
    second = Authority.make(tmp_path / "ca-2", "another authority", now=lambda: site.now)
    both = site.ca + second.certificate.public_bytes(serialization.Encoding.PEM)
    assert site.device.install(second.sign_request("device", site.device.request()), both)
    assert site.device.standing().state == "valid"


def test_a_key_that_others_can_read_is_refused(site: Site) -> None:
    site.device.request()
    (site.keys / "device.key").chmod(0o644)
    with pytest.raises(CertificateError, match="others can read"):
        site.device.request()


@given(content=st.binary(max_size=300))
def test_whatever_is_given_is_a_certificate_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    device = Certificates(folder, "cam-07")
    with pytest.raises(CertificateError):
        device.install(content, content)
    assert not (folder / "device.pem").exists()


def test_the_command_line_from_request_to_status(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.authority = Authority(tmp_path / "ca")
    config = tmp_path / "vigie.toml"
    config.write_text('[device]\nname = "cam-07"\n')
    common = ["--folder", str(site.keys), "--config", str(config)]
    runner = CliRunner()

    def vigie(*arguments: str) -> tuple[int, str]:
        done = runner.invoke(app, ["certificate", *arguments, *common])
        return done.exit_code, done.output

    assert vigie("status")[0] == 1
    assert vigie("request", "--out", str(tmp_path / "cam-07.csr"))[0] == 0
    signed = runner.invoke(
        app,
        [
            *("fleet", "pki", "sign-csr", "device", str(tmp_path / "cam-07.csr")),
            *("--folder", str(tmp_path / "ca"), "--out", str(tmp_path / "cam-07.pem")),
        ],
    )
    assert signed.exit_code == 0, signed.output
    install = ("install", str(tmp_path / "cam-07.pem"), "--ca", str(tmp_path / "ca" / "ca.pem"), "--json")
    code, out = vigie(*install)
    assert (code, json.loads(out)["changed"]) == (0, True)
    assert json.loads(vigie(*install)[1])["changed"] is False
    code, out = vigie("status", "--json")
    assert (code, json.loads(out)["state"]) == (0, "valid")
    assert vigie("install", str(config))[0] == 2
