"""A certificate authority in a folder, for a fleet of mutual TLS: it is offline, and so is its key.

The folder holds `ca.pem`, `ca.key`, `crl.pem` and `issued.jsonl`, one line for each certificate. What a certificate is
for stands in its common name, which brokers take for the user's name (`use_identity_as_username`, `ssl_cert_login`):

* a device: its id, such as `cam-07`; the access list lets it write below that name and nowhere else;
* a person or a service of the manager's side: `<role>.<name>`, such as `manager.alice`. No device's id has a dot, so
  none can be taken for one of them;
* a server: its first host name, for servers only: clients are refused by its key usage, and the other way round.

Keys are ECDSA P-256 with SHA-256 (RFC 8422; every TLS library of the last ten years has it, and secure elements do).
Profiles follow RFC 5280. Nothing is overwritten: a key that is replaced by mistake is a device that nobody can reach.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import TypeAdapter, ValidationError

from agent.contract import Name
from agent.durable import replace_file
from agent.relay.keys import KeyFileError, read_private_pem

Sort = Literal["device", "server", "manager", "correlator", "bridge", "keeper"]
#: What speaks for the manager's side.
ROLES: tuple[Sort, ...] = ("manager", "correlator", "bridge", "keeper")
#: How long certificates hold, days: a device may hang for years without a visit; a person's key lies on a laptop.
DAYS: dict[Sort, int] = {"device": 825, "server": 397, **dict.fromkeys(ROLES, 397)}
CA_DAYS = 3650
#: Clocks of devices may be behind when they start.
_BACKDATED = dt.timedelta(hours=1)
#: A list of revocations that is older is not to be trusted.
CRL_DAYS = 90

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_INDEX, _CA, _CA_KEY, _CRL = "issued.jsonl", "ca.pem", "ca.key", "crl.pem"


class PkiError(ValueError):
    """The authority cannot do that; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate as the authority's list has it.

    Attributes:
        serial: In hexadecimal.
        sort: What it is for.
        name: Its common name.
        hosts: Of a server: host names and addresses.
        until: Last day, UTC.
        revoked: Day on which it was revoked, or None.
    """

    serial: str
    sort: Sort
    name: str
    hosts: tuple[str, ...]
    until: str
    revoked: str | None = None

    def state(self, today: dt.date) -> Literal["valid", "expired", "revoked"]:
        """Whether it holds."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if today.isoformat() <= self.until else "expired"


def common_name(sort: Sort, name: str) -> str:
    """The common name of a certificate.

    Raises:
        PkiError: the name is not allowed.
    """
    if sort == "server":
        return name
    try:
        _NAME.validate_python(name)
    except ValidationError:
        raise PkiError(
            f"{name!r} is no name of a {sort}: small letters, digits and hyphens, at most 32, as in cam-07"
        ) from None
    return name if sort == "device" else f"{sort}.{name}"


class Authority:
    """A certificate authority in a folder."""

    def __init__(
        self, folder: Path, password: bytes | None = None, now: Callable[[], dt.datetime] | None = None
    ) -> None:
        """Open it; its key is read when it is needed.

        Args:
            folder: Where it is.
            password: Of its key.
            now: The time, UTC.

        Raises:
            PkiError: there is none, or its certificate cannot be read.
        """
        self._folder = folder
        self._password = password
        self._now = now or (lambda: dt.datetime.now(dt.timezone.utc))
        try:
            self.certificate = x509.load_pem_x509_certificate((folder / _CA).read_bytes())
        except OSError as error:
            raise PkiError(f"{folder}: no authority here ({error.strerror}): vigie fleet pki init") from error
        except ValueError as error:
            raise PkiError(f"{folder / _CA}: is no certificate in PEM") from error
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._entries: list[Issued] | None = None

    @classmethod
    def make(
        cls,
        folder: Path,
        name: str,
        password: bytes | None = None,
        *,
        days: int = CA_DAYS,
        now: Callable[[], dt.datetime] | None = None,
    ) -> Authority:
        """Make a new authority, with an empty list of revocations.

        Raises:
            PkiError: there is one already.
            OSError: the folder cannot be written.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in (_CA, _CA_KEY, _INDEX, _CRL):
            if (folder / file).exists():
                raise PkiError(f"{folder / file}: there is an authority already; nothing was overwritten")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        moment = now() if now else dt.datetime.now(dt.timezone.utc)
        builder = (
            _builder(subject, subject, key.public_key(), moment, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
        )
        _write_new(folder / _CA_KEY, _pem(key, password), 0o600)
        certificate = builder.sign(key, hashes.SHA256())
        _write_new(folder / _CA, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        _write_new(folder / _INDEX, b"", 0o600)
        authority = cls(folder, password, now)
        authority.write_crl()
        return authority

    def issue(
        self, sort: Sort, name: str, out: Path, *, hosts: Iterable[str] = (), days: int | None = None
    ) -> tuple[Path, Path]:
        """Make a key and its certificate, as `<common name>.pem` and `.key` in a folder.

        Args:
            sort: What it is for.
            name: Of the device, the person, or the server's first host name.
            out: The folder.
            hosts: Of a server: more host names and addresses.
            days: How long it holds.

        Raises:
            PkiError: a name is not allowed, a file is there already, or a certificate of that name still holds.
            OSError: the folder cannot be written.
        """
        subject = common_name(sort, name)
        self._refuse_second(sort, subject)
        cert_file, key_file = out / f"{subject}.pem", out / f"{subject}.key"
        for file in (cert_file, key_file):
            if file.exists():
                raise PkiError(f"{file}: is there already; nothing was overwritten")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(sort, subject, key.public_key(), [name, *hosts] if sort == "server" else [], days)
        out.mkdir(parents=True, exist_ok=True)
        _write_new(key_file, _pem(key, None), 0o600)
        _write_new(cert_file, certificate, 0o644)
        return cert_file, key_file

    def sign_request(
        self, sort: Sort, request: bytes, *, hosts: Iterable[str] = (), days: int | None = None, again: bool = False
    ) -> bytes:
        """Sign a request (PKCS 10) of a key that never leaves its device; the certificate in PEM.

        Nothing but the key and the common name is taken from the request; what it asks for besides is not given.

        Args:
            sort: What it is for.
            request: In PEM.
            hosts: Of a server: more host names and addresses.
            days: How long it holds.
            again: Also where one of that name still holds, which is not revoked: a renewal.

        Raises:
            PkiError: it is no request, its key is weak, its name is not allowed, or one of that name still holds.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
        except ValueError as error:
            raise PkiError("this is no certificate request in PEM") from error
        if not asked.is_signature_valid:
            raise PkiError("the request is not signed by its own key")
        key = asked.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
            raise PkiError("the request's key must be ECDSA of P-256 or P-384")
        names = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1:
            raise PkiError("the request must have one common name")
        name = str(names[0].value)
        if sort in ROLES:
            name = name.removeprefix(f"{sort}.")
        subject = common_name(sort, name)
        if not again:
            self._refuse_second(sort, subject)
        return self._sign(sort, subject, key, [name, *hosts] if sort == "server" else [], days)

    def renew(self, sort: Sort, cert_file: Path, *, days: int | None = None) -> bytes:
        """A new certificate for the same key and name as one of ours; the old one is not revoked.

        Raises:
            PkiError: it is not ours, is of another sort, or was revoked.
        """
        try:
            old = x509.load_pem_x509_certificate(cert_file.read_bytes())
            old.verify_directly_issued_by(self.certificate)
        except OSError as error:
            raise PkiError(f"{cert_file}: cannot be read: {error.strerror}") from error
        except Exception as error:  # InvalidSignature and ValueError have no common base
            raise PkiError(f"{cert_file}: is no certificate of this authority") from error
        serial = f"{old.serial_number:x}"
        entry = next((one for one in self.issued() if one.serial == serial and one.sort == sort), None)
        if entry is None:
            raise PkiError(f"{cert_file}: is no certificate of a {sort} in the list of this authority")
        if entry.revoked is not None:
            raise PkiError(f"{cert_file}: was revoked on {entry.revoked}; issue another one, with another key")
        key = old.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise PkiError(f"{cert_file}: its key must be ECDSA")
        return self._sign(sort, entry.name, key, list(entry.hosts), days)

    def revoke(self, name: str | None = None, serial: str | None = None) -> list[Issued]:
        """Revoke every certificate of a common name, or the one of a serial number, and write the list anew.

        Raises:
            PkiError: there is none that holds.
        """
        today = self._now().date()
        entries = self.issued()
        chosen = [e for e in entries if (e.name == name or e.serial == serial) and e.revoked is None]
        if not chosen:
            raise PkiError(f"no certificate {name or serial} that is not revoked: vigie fleet pki list")
        self._private_key()  # before anything is written
        revoked = [replace(entry, revoked=today.isoformat()) if entry in chosen else entry for entry in entries]
        lines = "".join(_line(entry) for entry in revoked)
        replace_file(self._folder / _INDEX, lines.encode(), 0o600)
        self._entries = revoked
        self.write_crl()
        return [entry for entry in revoked if entry.serial in {one.serial for one in chosen}]

    def issued(self) -> list[Issued]:
        """All certificates so far.

        Raises:
            PkiError: the list cannot be read.
        """
        if self._entries is not None:
            return self._entries
        path = self._folder / _INDEX
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            self._entries = [Issued(**{**row, "hosts": tuple(row["hosts"])}) for row in rows]
        except OSError as error:
            raise PkiError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise PkiError(f"{path}: is damaged; restore it from a copy") from error
        return self._entries

    def write_crl(self) -> Path:
        """Write the list of revocations (RFC 5280, section 5), which brokers check; it holds for `CRL_DAYS`."""
        now = self._now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _BACKDATED)
            .next_update(now + dt.timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
            .add_extension(_issuer(self.certificate), critical=False)
        )
        for entry in self.issued():
            if entry.revoked is not None:
                day = dt.datetime.fromisoformat(entry.revoked).replace(tzinfo=dt.timezone.utc)
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder().serial_number(int(entry.serial, 16)).revocation_date(day).build()
                )
        crl = builder.sign(self._private_key(), hashes.SHA256())
        path = self._folder / _CRL
        replace_file(path, crl.public_bytes(serialization.Encoding.PEM), 0o644)
        return path

    def _refuse_second(self, sort: Sort, subject: str) -> None:
        today = self._now().date()
        if any(e.name == subject and e.sort == sort and e.state(today) == "valid" for e in self.issued()):
            raise PkiError(f"{subject}: has a certificate that still holds; vigie fleet pki renew, or revoke it first")

    def _sign(
        self, sort: Sort, subject: str, key: ec.EllipticCurvePublicKey, hosts: list[str], days: int | None
    ) -> bytes:
        lifetime = days or DAYS[sort]
        now = self._now()
        end = now + dt.timedelta(days=lifetime)
        if end > self.certificate.not_valid_after_utc:
            raise PkiError(f"the authority's own certificate ends before: on {self.certificate.not_valid_after_utc:%F}")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if sort == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(name, self.certificate.subject, key, now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_issuer(self.certificate), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_host, hosts)]), critical=False)
        certificate = builder.sign(self._private_key(), hashes.SHA256())
        entry = Issued(f"{certificate.serial_number:x}", sort, subject, tuple(hosts), end.date().isoformat())
        with (self._folder / _INDEX).open("a", encoding="utf-8") as index:
            index.write(_line(entry))
            index.flush()
            os.fsync(index.fileno())
        self._entries = [*self.issued(), entry]
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _private_key(self) -> ec.EllipticCurvePrivateKey:
        if self._key is None:
            path = self._folder / _CA_KEY
            try:
                key = serialization.load_pem_private_key(read_private_pem(path), self._password)
            except KeyFileError as error:
                raise PkiError(str(error)) from error
            except (ValueError, TypeError) as error:
                raise PkiError(f"{path}: cannot be opened: a wrong password, or none where it needs one") from error
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise PkiError(f"{path}: is no ECDSA key")
            self._key = key
        return self._key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _host(text: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(text))
    if len(text) > 253 or not _HOST.fullmatch(text):
        raise PkiError(f"{text!r} is neither a host name nor an address")
    return x509.DNSName(text)


def _pem(key: ec.EllipticCurvePrivateKey, password: bytes | None) -> bytes:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        lock = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def _line(entry: Issued) -> str:
    return json.dumps({key: value for key, value in asdict(entry).items() if value is not None}) + "\n"


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet; nobody but its owner can read it before it has its mode."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise PkiError(f"{path}: is there already; nothing was overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(mode)


def access_list(entries: Iterable[Issued], today: dt.date) -> str:
    """The access list of mosquitto: a device below its own name, and what each role may do.

    A manager writes commands and configurations only, and so cannot speak for a device; whoever joins or bridges reads,
    and writes where no device may.
    """
    lines = [
        "# Made by vigie fleet pki access mosquitto. The user of a device is its id (%u): no dot, no wildcard.",
        "pattern readwrite vigie/v1/+/%u/#",
    ]
    for entry in _users(entries, today):
        if entry.sort in ROLES:
            lines += ["", f"user {entry.name}", *(f"topic {rule}" for rule in _RULES[entry.sort])]
    return "\n".join(lines) + "\n"


#: Of each role: what may be read and written.
_RULES: dict[Sort, tuple[str, ...]] = {
    "manager": ("read vigie/v1/#", "write vigie/v1/+/+/cmd/+", "write vigie/v1/+/+/config/desired"),
    "correlator": ("read vigie/v1/#", "write vigie/v1/+/_incidents/#"),
    "bridge": (
        "read vigie/v1/#",
        "write vigie/v1/+/+/cmd/pause",
        "write vigie/v1/+/+/cmd/resume",
        "readwrite homeassistant/#",
        "readwrite vigie-homeassistant/#",
        "readwrite +/onvif-ej/#",
    ),
    "keeper": ("read vigie/v1/#", "write vigie/v1/+/+/config/desired"),
}


def emqx_rules(entries: Iterable[Issued], today: dt.date) -> str:
    """The same for EMQX, as its `acl.conf`."""
    actions = {"read": "subscribe", "write": "publish", "readwrite": "all"}
    lines = ['{allow, all, all, ["vigie/v1/+/${username}/#"]}.']
    for entry in _users(entries, today):
        for rule in _RULES.get(entry.sort, ()):
            may, topic = rule.split(" ")
            lines.append(f'{{allow, {{user, "{entry.name}"}}, {actions[may]}, ["{topic}"]}}.')
    return "\n".join([*lines, "{deny, all}."]) + "\n"


def definitions(entries: Iterable[Issued], today: dt.date) -> dict[str, object]:
    """The same for RabbitMQ, as definitions to import: users without a password, and what each may do.

    RabbitMQ turns `/` into `.` and `+` into `*`; a topic permission is a regular expression of that.
    """
    users = list(_users(entries, today))
    topics = [
        {
            "user": entry.name,
            "vhost": "/",
            "exchange": "amq.topic",
            "write": _WRITES[entry.sort].replace("{user}", re.escape(entry.name)),
            "read": _READS[entry.sort].replace("{user}", re.escape(entry.name)),
        }
        for entry in users
    ]
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {"name": entry.name, "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
            for entry in users
        ],
        "permissions": [
            {
                "user": entry.name,
                "vhost": "/",
                "configure": "^mqtt-subscription-.*$",
                "write": r"^(mqtt-subscription-.*|amq\.topic)$",
                "read": r"^(mqtt-subscription-.*|amq\.topic)$",
            }
            for entry in users
        ],
        "topic_permissions": topics,
    }


_BRIDGED = r"homeassistant\..+|vigie-homeassistant\..+|[^.]+\.onvif-ej\..+"
_ALL = r"^vigie\..*$"
_WRITES: dict[Sort, str] = {
    "device": r"^vigie\.v1\.[^.]+\.{user}\..+$",
    "manager": r"^vigie\.v1\.[^.]+\.[^.]+\.(cmd\.[^.]+|config\.desired)$",
    "correlator": r"^vigie\.v1\.[^.]+\._incidents\..+$",
    "bridge": rf"^(vigie\.v1\.[^.]+\.[^.]+\.cmd\.(pause|resume)|{_BRIDGED})$",
    "keeper": r"^vigie\.v1\.[^.]+\.[^.]+\.config\.desired$",
}
_READS: dict[Sort, str] = {
    "device": _WRITES["device"],
    "manager": _ALL,
    "correlator": _ALL,
    "bridge": rf"^(vigie\..*|{_BRIDGED})$",
    "keeper": _ALL,
}


def _users(entries: Iterable[Issued], today: dt.date) -> Iterator[Issued]:
    """One entry of each user whose certificate holds."""
    seen: set[str] = set()
    for entry in entries:
        if entry.sort != "server" and entry.state(today) == "valid" and entry.name not in seen:
            seen.add(entry.name)
            yield entry
