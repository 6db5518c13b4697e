"""The contract that a request brings along: JSON, and JSON of one schema.

Not here: checking an answer (``answers/contract.py``), and contracts registered for a task.
"""

from __future__ import annotations

from typing import Any

from loop_pipeline.answers.json_schema import UnsupportedContract, check_schema
from loop_pipeline.answers.schemas.schema_formats import FORMATS

# A client's regular expression may use up all the time that patterns have, while others wait.
_LEFT_TO_THE_FRONTIER = frozenset({"pattern", "patternProperties"})


def json_contract(schema: Any) -> dict[str, Any] | None:
    """The contract "JSON of this schema"; None if answers cannot be checked for it here."""
    try:
        used = check_schema(schema)
    except UnsupportedContract:
        return None
    if used & _LEFT_TO_THE_FRONTIER or ("format" in used and not _known_formats(schema)):
        return None
    return {"kind": "json", "schema": schema}


def any_json() -> dict[str, Any]:
    """The contract "a JSON object"."""
    return {"kind": "json", "schema": {"type": "object"}}


def _known_formats(part: Any) -> bool:
    """Whether every ``format`` is one that is checked: the frontier keeps to the others, too."""
    if isinstance(part, list):
        return all(map(_known_formats, part))
    if not isinstance(part, dict):
        return True
    wanted = part.get("format")
    known = not isinstance(wanted, str) or wanted in FORMATS.checkers
    return known and all(map(_known_formats, part.values()))
