"""Digests that ids, names and versions are made of.

Not here: coins (``stats/sampling.py``).

What is hashed, and why, belongs to whoever names it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any


def plain_numbers(value: Any) -> Any:
    """Floats to fifteen digits, which survive being written and read."""
    if isinstance(value, dict):
        return {k: plain_numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(v) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot stand in a policy")
        return float(f"{value:.15g}") + 0.0
    return value


def canonical(document: Any) -> str:
    """JSON with sorted keys and no spaces: equal content, equal bytes."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def seal_of(document: Any) -> str:
    """sha256 of the canonical form."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()


def subject_hash(
    student: Mapping[str, str],
    frontier: Mapping[str, str],
    versions: Mapping[str, str],
    embedder_version: str,
    others: Sequence[tuple[str, str]] = (),
) -> str:
    """What a certificate speaks about; another hash means the certificate is void."""
    more = [list(other) for other in sorted(others)]
    return seal_of([dict(student), dict(frontier), dict(versions), embedder_version, *more])


def digest(*parts: str) -> str:
    """Hex sha256 over parts, unambiguous whatever the parts contain."""
    # Byte for byte what json.dumps gives, without its set-up: it is called for every trace.
    text = ", ".join(map(encode_basestring_ascii, parts))
    return hashlib.sha256(f"[{text}]".encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
