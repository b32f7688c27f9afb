"""Ed25519 keys as PEM files that their owner alone can read (RFC 8410): the audit log's, and those of managers."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.durable import replace_file


class KeyFileError(ValueError):
    """A key file that cannot be used; the text says which, why and what to do."""


def make_key(path: Path) -> None:
    """Write a new private key, whole or not at all, unless there is a file.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists():
        return
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    replace_file(path, pem)


def read_private_pem(path: Path) -> bytes:
    """What is in the file of a private key, of any kind.

    Raises:
        KeyFileError: there is none, or others can read it.
    """
    try:
        pem = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyFileError(f"{path}: the private key cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path}: others can read the private key: chmod 600 {path}")
    return pem


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file.

    Raises:
        KeyFileError: there is none, it is of another kind, or others can read it.
    """
    pem = read_private_pem(path)
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(
            f"{path}: is no unencrypted private key in PEM: openssl genpkey -algorithm ed25519"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: is no Ed25519 key: openssl genpkey -algorithm ed25519")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a file.

    Raises:
        KeyFileError: there is none, or it is of another kind.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise KeyFileError(f"{path}: is no public key in PEM, as vigie audit key prints it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: is no Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> str:
    """The public key as a PEM file has it."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 bytes of a public key, in hexadecimal."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()
