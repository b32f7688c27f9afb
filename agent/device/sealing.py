"""A private key that only this machine can open: encrypted by systemd-creds, with the TPM where there is one.

systemd-creds (systemd 250 and later: JetPack 7, not JetPack 6) encrypts with a key of the TPM, or without one with a
secret of this machine's disk: that protects a copied file, and not a stolen disk. systemd opens it for the unit that
names it (`LoadCredentialEncrypted=`), and for nobody else. An OP-TEE without a TPM in it (fTPM) seals nothing here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Literal

Hardware = Literal["tpm2", "op-tee", "none"]

_TIMEOUT_S = 30.0


class SealError(RuntimeError):
    """It cannot be sealed or opened; the text says why and what to do."""


def hardware(root: Path = Path("/")) -> Hardware:
    """What this machine has to keep a secret.

    Args:
        root: Of the file system.
    """
    if (root / "dev" / "tpmrm0").exists():
        return "tpm2"
    return "op-tee" if any((root / "dev" / name).exists() for name in ("tee0", "teepriv0")) else "none"


def seal(secret: bytes, name: str) -> bytes:
    """Encrypt, so that only this machine can open it, under this name.

    Raises:
        SealError: systemd-creds is not there, or fails.
    """
    return _systemd_creds("encrypt", name, secret)


def unseal(sealed: bytes, name: str) -> bytes:
    """What was encrypted on this machine; root alone can do it.

    Raises:
        SealError: systemd-creds is not there, or it is of another machine or name.
    """
    return _systemd_creds("decrypt", name, sealed)


def _systemd_creds(verb: Literal["encrypt", "decrypt"], name: str, content: bytes) -> bytes:
    program = shutil.which("systemd-creds")
    if program is None:
        raise SealError("systemd-creds is not there: it needs systemd 250 or later (JetPack 7)")
    try:
        done = subprocess.run(
            [program, verb, f"--name={name}", "-", "-"],
            input=content,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SealError(f"systemd-creds {verb}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise SealError(f"systemd-creds {verb}: {said}")
    return done.stdout
