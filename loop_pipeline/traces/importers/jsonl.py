"""The loop's own format: JSON lines, a trace or a piece of feedback a line.

Not here: storing what was read (``traces/ingest.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from loop_pipeline.traces.records import Feedback, Trace


@dataclass(frozen=True)
class BadLine:
    """A line that is neither a trace nor feedback, and why."""

    raw: str
    reason: str


Record = Trace | Feedback | BadLine


def parse_line(raw: bytes) -> list[Record]:
    """Read one line: a trace and the feedback inside it, feedback, or why it is neither.

    A wrong piece of feedback inside a good trace costs that piece, not the trace.
    """
    try:
        value = json.loads(raw.decode())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return [_bad(raw, f"not JSON: {error}")]
    if not isinstance(value, dict):
        return [_bad(raw, f"not a JSON object but {type(value).__name__}")]
    try:
        if "kind" in value and "messages" not in value:
            return [Feedback.model_validate(value)]
        trace = Trace.model_validate(value)
    except ValidationError as error:
        return [_bad(raw, _why(error))]
    if trace.feedback and not trace.prompt_id:
        return [_bad(raw, "prompt_id: needed where a trace brings feedback")]
    return [trace, *(_feedback(raw, trace, item) for item in trace.feedback)]


def read_jsonl(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield (line number from 1, record) of a JSON-lines file; empty lines are passed over."""
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if raw.strip():
                for record in parse_line(raw):
                    yield number, record


def _feedback(raw: bytes, trace: Trace, item: dict[str, object]) -> Record:
    try:
        return Feedback.model_validate({"prompt_id": trace.prompt_id} | item)
    except ValidationError as error:
        return _bad(raw, f"feedback of {trace.prompt_id}: {_why(error)}")


def _bad(raw: bytes, reason: str) -> BadLine:
    # PostgreSQL's text has no NUL.
    return BadLine(raw.decode(errors="replace").rstrip("\n").replace("\0", "�"), reason)


def _why(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc']) or 'record'}: {e['msg']}"
        for e in error.errors()[:5]
    )
