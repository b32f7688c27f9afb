"""The device's own key and certificate: the key is made here and stays here, the certificate comes from the authority.

In the folder (`/etc/vigie/keys`, root's alone, whence systemd hands them to relay as credentials) are `device.key`
(ECDSA P-256), `device.pem` and `ca.pem`. A request (PKCS 10) names the device as its common name, by which brokers know
it. A certificate is installed when it fits key, name and authority, and takes the place of the old one whole. It is
renewed with the same key, when a third of its time is left; a key that somebody else may have is revoked, and both
files are removed before another request.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.device.clock import BEGINNING
from agent.durable import replace_file
from agent.relay.keys import KeyFileError, read_private_pem

State = Literal["no key", "no certificate", "valid", "renew", "expired", "early", "unfit"]

KEY, CERTIFICATE, AUTHORITY = "device.key", "device.pem", "ca.pem"
#: Share of a certificate's time that is left when it is to be renewed, as the clients of public authorities have it.
_RENEW_AT = 1 / 3


class CertificateError(ValueError):
    """A key or certificate that cannot be used; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the device's certificate is.

    Attributes:
        state: `renew`: it holds, and a new one is due; `early`: its first day is ahead, or the clock is not set;
            `unfit`: it is not for this key, device or authority.
        reason: In words, what is wrong and what to do; empty where nothing is.
        name: Its common name.
        serial: In hexadecimal, as `vigie fleet pki list` has it.
        begin: First second, UTC, RFC 3339.
        until: Last second.
        renew_from: From when it is to be renewed.
    """

    state: State
    reason: str = ""
    name: str | None = None
    serial: str | None = None
    begin: str | None = None
    until: str | None = None
    renew_from: str | None = None


def _utc() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


class Certificates:
    """Key and certificate of one device, in a folder."""

    def __init__(self, folder: Path, device: str, now: Callable[[], dt.datetime] = _utc) -> None:
        """Nothing is read yet.

        Args:
            folder: Where they are.
            device: Name of the device.
            now: The time, UTC, aware.
        """
        self.folder = folder
        self._device = device
        self._now = now

    def request(self) -> bytes:
        """A request for a certificate, in PEM; the key is made where there is none.

        Raises:
            CertificateError: the key cannot be used.
            OSError: the folder cannot be written.
        """
        path = self.folder / KEY
        if not path.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            replace_file(path, pem)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._device)])
        built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key(), hashes.SHA256())
        return built.public_bytes(serialization.Encoding.PEM)

    def install(self, certificate: bytes, authority: bytes | None = None) -> bool:
        """Put a certificate in the place of the one before, and its authority's with it.

        Args:
            certificate: In PEM.
            authority: Certificates of the authorities that are trusted, in PEM; None: those that are there.

        Returns:
            Whether anything is another one than before.

        Raises:
            CertificateError: it does not fit key, name or authority, or does not hold now; nothing was changed.
            OSError: the folder cannot be read or written.
        """
        trusted = authority if authority is not None else _content(self.folder / AUTHORITY)
        if trusted is None:
            raise CertificateError(f"{self.folder / AUTHORITY}: is not there: give the authority's certificate (--ca)")
        found = _parsed(certificate, "the certificate")
        self._check(found, _all_parsed(trusted, "the authority's certificate"))
        state = self._time_state(found)
        if state in {"expired", "early"}:
            raise CertificateError(
                f"it holds from {_stamp(found.not_valid_before_utc)} to {_stamp(found.not_valid_after_utc)},"
                f" and it is {_stamp(self._now())} here"
            )
        changed = False
        # The authority first: with the certificate before, it is trusted as well or the broker's would not have been.
        for name, content in ((AUTHORITY, trusted), (CERTIFICATE, found.public_bytes(serialization.Encoding.PEM))):
            if _content(self.folder / name) != content:
                replace_file(self.folder / name, content, 0o644)
                changed = True
        return changed

    def standing(self) -> Standing:
        """How the certificate is.

        Raises:
            OSError: the folder cannot be read.
        """
        if not (self.folder / KEY).exists():
            return Standing("no key", f"{self.folder / KEY}: is not there: vigie certificate request")
        content, trusted = _content(self.folder / CERTIFICATE), _content(self.folder / AUTHORITY)
        if content is None or trusted is None:
            missing = self.folder / (CERTIFICATE if content is None else AUTHORITY)
            return Standing("no certificate", f"{missing}: is not there: vigie certificate install")
        try:
            found = _parsed(content, str(self.folder / CERTIFICATE))
        except CertificateError as error:
            return Standing("unfit", str(error))
        state: State = self._time_state(found)
        reason = ""
        try:
            self._check(found, _all_parsed(trusted, str(self.folder / AUTHORITY)))
        except CertificateError as error:
            state, reason = "unfit", str(error)
        until = found.not_valid_after_utc
        if state in _ADVICE:
            reason = f"it holds from {_stamp(found.not_valid_before_utc)} to {_stamp(until)}: {_ADVICE[state]}"
        return Standing(
            state,
            reason,
            name=_common_name(found),
            serial=f"{found.serial_number:x}",
            begin=_stamp(found.not_valid_before_utc),
            until=_stamp(until),
            renew_from=_stamp(_renew_from(found)),
        )

    def _key(self) -> ec.EllipticCurvePrivateKey:
        path = self.folder / KEY
        try:
            key = serialization.load_pem_private_key(read_private_pem(path), None)
        except KeyFileError as error:
            raise CertificateError(str(error)) from error
        except (ValueError, TypeError) as error:
            raise CertificateError(f"{path}: is no unencrypted private key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"{path}: is no ECDSA key; move it away, and request anew")
        return key

    def _check(self, found: x509.Certificate, trusted: list[x509.Certificate]) -> None:
        """Whether it fits key, name and authority.

        Raises:
            CertificateError: it does not.
        """
        if found.public_key() != self._key().public_key():
            raise CertificateError(
                f"the certificate is not for the key {self.folder / KEY}: sign this device's request"
            )
        name = _common_name(found)
        if name != self._device:
            raise CertificateError(
                f"the certificate is for {name!r}, and this device is {self._device!r} (device.name)"
            )
        if not any(_issued(found, authority) for authority in trusted):
            raise CertificateError("the certificate was not issued by this authority")
        with contextlib.suppress(x509.ExtensionNotFound):
            usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
                raise CertificateError("the certificate is not for a client: sign it as one of a device")

    def _time_state(self, found: x509.Certificate) -> Literal["valid", "renew", "expired", "early"]:
        now = self._now()
        if now < max(found.not_valid_before_utc, BEGINNING):
            return "early"
        if now > found.not_valid_after_utc:
            return "expired"
        return "renew" if now >= _renew_from(found) else "valid"


_ADVICE = {
    "early": "is the clock set?",
    "renew": "request and install another one",
    "expired": "request and install another one",
}


def _renew_from(found: x509.Certificate) -> dt.datetime:
    begin, until = found.not_valid_before_utc, found.not_valid_after_utc
    return until - _RENEW_AT * (until - begin)


def _issued(found: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether an authority signed it, and is one."""
    try:
        found.verify_directly_issued_by(authority)
        basic = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return basic.ca


def _common_name(found: x509.Certificate) -> str | None:
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def _parsed(content: bytes, what: str) -> x509.Certificate:
    return _all_parsed(content, what)[0]


def _all_parsed(content: bytes, what: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise CertificateError(f"{what}: is no certificate in PEM") from error
    return found


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
