"""Hashes that name things: of texts, of files.

What is hashed, and why, belongs to whoever names it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def digest(*parts: str) -> str:
    """Hex sha256 over parts, unambiguous whatever the parts contain."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
