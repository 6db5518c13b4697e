"""The secret of one installation: it keys user hashes and signs policies.

Not here: keys of applications (``store``) and of vendors (``settings``).
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

NAME = "installation.secret"


def installation_secret(home: Path, given: str = "") -> bytes:
    """The secret of this installation, made once in the home folder where none is given.

    Args:
        home: the loop's home folder; the file there is readable by its owner only.
        given: the secret itself (``LOOP_INSTALLATION_SECRET``), for several machines on one store.

    Raises:
        ValueError: the file is there but too short to be a secret.
    """
    if given:
        return given.encode()
    path = home / NAME
    with contextlib.suppress(FileExistsError):
        home.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, and never a second one: a link does not replace.
        draft = home / f".{NAME}.{os.getpid()}.{secrets.token_hex(4)}"
        if not path.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            finally:
                draft.unlink()
    found = path.read_text(encoding="ascii").strip()
    if len(found) < 32:
        raise ValueError(f"{path} is no secret: restore it, or remove it to have a new one made")
    return found.encode()


def keyed_digest(secret: bytes, purpose: str, text: str) -> str:
    """HMAC-SHA256 in hex: the same text under another purpose or secret is another name."""
    return hmac.digest(secret, f"{purpose}\0{text}".encode(), "sha256").hex()


def user_hash(secret: bytes, user: str) -> str:
    """Names a user without saying who it is: in live traffic and in imported files alike."""
    return keyed_digest(secret, "user", user)[:32]
