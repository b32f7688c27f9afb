"""The authority: what it issues, what it refuses, and that it never overwrites."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from typer.testing import CliRunner

from agent.cli.app import app
from agent.fleet.pki import Authority, PkiError, access_list, definitions, emqx_rules

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.timezone.utc)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "ca", "the authority", now=lambda: NOW)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def name_of(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def request(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM)


def test_a_device_gets_a_certificate_with_its_id_for_clients_only(authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = authority.issue("device", "cam-07", tmp_path)
    certificate = load(cert_file)
    assert name_of(certificate) == "cam-07"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert key_file.stat().st_mode & 0o777 == 0o600
    certificate.verify_directly_issued_by(authority.certificate)
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_a_server_is_verified_by_its_names(authority: Authority, tmp_path: Path) -> None:
    cert_file, _ = authority.issue("server", "broker.example", tmp_path, hosts=["broker-2.example", "10.0.0.4"])
    builder = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
    for host in ("broker.example", "broker-2.example"):
        builder.build_server_verifier(x509.DNSName(host)).verify(load(cert_file), [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(load(cert_file), [])


def test_no_device_can_be_taken_for_a_manager(authority: Authority, tmp_path: Path) -> None:
    manager, _ = authority.issue("manager", "alice", tmp_path)
    assert name_of(load(manager)) == "manager.alice"
    for name in ("manager.alice", "_incidents", "cam+", "cam/07", "#", "", "CAM", "x" * 33, "%u"):
        with pytest.raises(PkiError):
            authority.issue("device", name, tmp_path)


def test_nothing_is_overwritten(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="there is an authority already"):
        Authority.make(tmp_path / "ca", "another")
    (tmp_path / "cam-07.key").write_text("precious")
    with pytest.raises(PkiError, match="nothing was overwritten"):
        authority.issue("device", "cam-07", tmp_path)
    assert (tmp_path / "cam-07.key").read_text() == "precious"
    authority.issue("device", "cam-08", tmp_path / "a")
    with pytest.raises(PkiError, match="still holds"):
        authority.issue("device", "cam-08", tmp_path / "b")


def test_a_request_gives_its_key_and_its_name_and_nothing_else(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = x509.load_pem_x509_certificate(authority.sign_request("device", request("cam-09", key)))
    assert certificate.public_key() == key.public_key()
    assert name_of(certificate) == "cam-09"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_bad_requests_are_refused(authority: Authority) -> None:
    with pytest.raises(PkiError, match="no certificate request"):
        authority.sign_request("device", b"nonsense")
    with pytest.raises(PkiError, match="ECDSA"):
        authority.sign_request("device", request("cam-09", rsa.generate_private_key(65537, 2048)))
    with pytest.raises(PkiError, match="no name of a device"):
        authority.sign_request("device", request("manager.alice", ec.generate_private_key(ec.SECP256R1())))


def test_what_is_revoked_is_in_the_list_and_not_renewed(authority: Authority, tmp_path: Path) -> None:
    cert_file, _ = authority.issue("device", "cam-07", tmp_path)
    authority.revoke("cam-07")
    crl = x509.load_pem_x509_crl((tmp_path / "ca" / "crl.pem").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(load(cert_file).serial_number) is not None
    public_key = authority.certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(public_key)
    with pytest.raises(PkiError, match="was revoked"):
        authority.renew("device", cert_file)
    with pytest.raises(PkiError, match="not revoked"):
        authority.revoke("cam-07")
    authority.issue("device", "cam-07", tmp_path / "anew")


def test_a_certificate_is_renewed_for_the_same_key(authority: Authority, tmp_path: Path) -> None:
    cert_file, _ = authority.issue("server", "broker.example", tmp_path, hosts=["10.0.0.4"])
    renewed = x509.load_pem_x509_certificate(authority.renew("server", cert_file, days=10))
    assert renewed.public_key() == load(cert_file).public_key()
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example"]
    other = Authority.make(tmp_path / "other", "another", now=lambda: NOW)
    with pytest.raises(PkiError, match="no certificate of this authority"):
        other.renew("server", cert_file)


def test_a_key_with_a_password_needs_it(tmp_path: Path) -> None:
    Authority.make(tmp_path / "ca", "the authority", b"sesame")
    assert b"ENCRYPTED" in (tmp_path / "ca" / "ca.key").read_bytes()
    for password in (None, b"wrong"):
        with pytest.raises(PkiError, match="password"):
            Authority(tmp_path / "ca", password).issue("device", "cam-07", tmp_path)
    Authority(tmp_path / "ca", b"sesame").issue("device", "cam-07", tmp_path)


def test_a_key_that_others_can_read_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca" / "ca.key").chmod(0o644)
    with pytest.raises(PkiError, match="chmod 600"):
        Authority(tmp_path / "ca").issue("device", "cam-07", tmp_path)


def test_no_certificate_outlives_the_authority(tmp_path: Path) -> None:
    short = Authority.make(tmp_path / "ca", "short", days=100, now=lambda: NOW)
    with pytest.raises(PkiError, match="ends before"):
        short.issue("device", "cam-07", tmp_path)


def test_the_access_lists_name_each_role_once_and_no_revoked_one(authority: Authority, tmp_path: Path) -> None:
    for sort, name in (("device", "cam-07"), ("device", "cam-08"), ("manager", "alice"), ("correlator", "north")):
        authority.issue(sort, name, tmp_path)  # type: ignore[arg-type]
    authority.revoke("cam-08")
    entries = authority.issued()
    text = access_list(entries, NOW.date())
    assert "pattern readwrite vigie/v1/+/%u/#" in text
    assert re.findall("^user (.*)$", text, re.MULTILINE) == ["manager.alice", "correlator.north"]
    rules = emqx_rules(entries, NOW.date()).splitlines()
    assert rules[0] == '{allow, all, all, ["vigie/v1/+/${username}/#"]}.'
    assert '{allow, {user, "correlator.north"}, publish, ["vigie/v1/+/_incidents/#"]}.' in rules
    assert rules[-1] == "{deny, all}."
    table = json.loads(json.dumps(definitions(entries, NOW.date())))
    assert [user["name"] for user in table["users"]] == ["cam-07", "manager.alice", "correlator.north"]
    write = {row["user"]: re.compile(row["write"]) for row in table["topic_permissions"]}
    assert write["cam-07"].match("vigie.v1.old-port.cam-07.event.crowd/gathering")
    assert not write["cam-07"].match("vigie.v1.old-port.cam-08.event.crowd/gathering")
    assert not write["cam-07"].match("vigie.v1.old-port._incidents.crowd/density")
    assert write["correlator.north"].match("vigie.v1.old-port._incidents.crowd/density")
    assert not write["manager.alice"].match("vigie.v1.old-port.cam-07.status")
    assert write["manager.alice"].match("vigie.v1.old-port.cam-07.cmd.detector/enable")
    read = {row["user"]: re.compile(row["read"]) for row in table["topic_permissions"]}
    assert read["cam-07"].match("vigie.v1.old-port.cam-07.cmd.*")
    assert not read["cam-07"].match("vigie.v1.*.*.status")


def test_the_commands_do_it_all(tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["fleet", "pki", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    ca, out = str(tmp_path / "ca"), str(tmp_path / "out")
    password = tmp_path / "password"
    password.write_text("sesame\n")
    locked = ("--folder", ca, "--password-file", str(password))
    run("init", *locked)
    run("issue", "device", "cam-07", "cam-08", *locked, "--out", out)
    assert "still holds" in run("issue", "device", "cam-07", *locked, "--out", out, code=2)
    run("renew", "device", f"{out}/cam-07.pem", *locked, "--out", f"{out}/new.pem")
    run("revoke", "--name", "cam-08", *locked)
    rows = json.loads(run("list", "--folder", ca, "--json"))["certificates"]
    assert sorted((row["name"], row["state"]) for row in rows) == [
        ("cam-07", "valid"),
        ("cam-07", "valid"),
        ("cam-08", "revoked"),
    ]
    assert "cam-08" in run("list", "--folder", ca)
    assert "pattern" in run("access", "mosquitto", "--folder", ca)
    assert "deny" in run("access", "emqx", "--folder", ca)
    assert "cam-08" not in run("access", "rabbitmq", "--folder", ca)
    run("crl", *locked)
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "request.pem").write_bytes(request("cam-09", key))
    run("sign-csr", "device", str(tmp_path / "request.pem"), *locked, "--out", f"{out}/cam-09.pem")
    assert "overwritten" in run(
        "sign-csr", "device", str(tmp_path / "request.pem"), *locked, "--out", f"{out}/cam-09.pem", code=2
    )
    assert "no authority" in run("list", "--folder", str(tmp_path / "nowhere"), code=2)
