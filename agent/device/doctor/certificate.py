"""The device's certificate: is it there, is it this device's, does its key fit, and until when does it serve."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn

#: Share of its time that is left when it is to be renewed, as agent.relay.certificate has it.
_RENEW_AT = 1 / 3
#: Where systemd hands credentials to relay while it runs, and where they come from (deploy/systemd).
_CREDENTIALS, _KEYS = "run/credentials", "etc/vigie/keys"
_ANOTHER = "get another one: sudo vigie certificate request; the manager signs it; sudo vigie certificate install"


def examine(patient: Patient) -> Findings:
    """Times, name, key and issuer of the certificate in the settings."""
    settings = patient.settings
    mqtt = settings.mqtt
    if not mqtt.tls:
        return [ok("", "none is needed: the broker is on this machine, without TLS")]
    if mqtt.cert_file is None or mqtt.key_file is None:
        how = "by a password" if mqtt.username else "by nothing: a broker of ours asks for a certificate"
        return [ok("", f"none is configured; the broker knows this device {how}")]
    try:
        certificate = x509.load_pem_x509_certificate(_read(mqtt.cert_file, patient.root))
    except PermissionError:
        return [warn("", f"{mqtt.cert_file}: this user may not read it", "sudo vigie doctor --only certificate")]
    except OSError as error:
        return [fail("", f"{mqtt.cert_file}: {error.strerror}", _ANOTHER)]
    except ValueError:
        return [fail("", f"{mqtt.cert_file}: is no certificate in PEM", _ANOTHER)]
    name = _common_name(certificate)
    found = [*_times(certificate, patient.wall()), *_key(certificate, mqtt.key_file, patient.root)]
    if name != settings.device.name:
        fix = f"its broker knows it as {name}: set device.name to that, or {_ANOTHER}"
        found.append(fail("name", f"is for {name!r}, and this device is {settings.device.name!r}", fix))
    if mqtt.ca_file is not None:
        found += _issuer(certificate, mqtt.ca_file, patient.root)
    days = (certificate.not_valid_after_utc - patient.wall()).days
    return found or [ok("", f"{name}, serves until {certificate.not_valid_after_utc:%Y-%m-%d}, {days} days")]


def _times(certificate: x509.Certificate, now: dt.datetime) -> Findings:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        hint = "is the clock right? See the line clock"
        yield fail("time", f"serves from {begin:%Y-%m-%d %H:%M} UTC on, and now is {now:%Y-%m-%d %H:%M}", hint)
    elif now > end:
        yield fail("time", f"expired on {end:%Y-%m-%d %H:%M} UTC", f"{_ANOTHER}; or the clock is wrong: line clock")
    elif now > end - _RENEW_AT * (end - begin):
        yield warn("time", f"expires on {end:%Y-%m-%d %H:%M} UTC", _ANOTHER)


def _key(certificate: x509.Certificate, path: Path, root: Path) -> Findings:
    try:
        key = serialization.load_pem_private_key(_read(path, root), None)
    except PermissionError:
        return  # another user's, as it should be
    except OSError as error:
        yield fail("key", f"{path}: {error.strerror}", _ANOTHER)
        return
    except (ValueError, TypeError):
        yield fail("key", f"{path}: is no unencrypted private key in PEM", _ANOTHER)
        return
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        yield fail("key", f"{path} is not the key of this certificate", f"put both files of one pair there; {_ANOTHER}")


def _issuer(certificate: x509.Certificate, ca_file: Path, root: Path) -> list[Finding]:
    try:
        authorities = x509.load_pem_x509_certificates(_read(ca_file, root))
    except PermissionError:
        return []
    except OSError as error:
        return [fail("authority", f"{ca_file}: {error.strerror}", "copy ca.pem from the manager's machine")]
    except ValueError:
        return [fail("authority", f"{ca_file}: is no certificate in PEM", "copy ca.pem from the manager's machine")]
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return []
    # It may be signed by an intermediate authority that the broker knows; the line broker says whether it is let in.
    fix = "put ca.pem and the certificate of one authority there: vigie fleet pki on the manager's machine"
    return [warn("authority", f"was not signed by the authority in {ca_file}", fix)]


def _read(path: Path, root: Path) -> bytes:
    """A credential, from where it comes while relay does not run.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists() and path.is_relative_to(root / _CREDENTIALS):
        path = root / _KEYS / path.name
    return path.read_bytes()


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
