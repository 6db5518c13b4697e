"""The loop's own format: JSON lines, a trace or a piece of feedback a line.

Not here: storing what was read (``traces/ingest.py``).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from loop_pipeline.traces.importers.lenient import meant
from loop_pipeline.traces.plain_lines import plain_trace
from loop_pipeline.traces.records import Feedback, Trace
from loop_pipeline.traces.storable import MOST_LINE_BYTES, unstorable
from loop_pipeline.traces.trace_lines import TraceLine, trace_line, utc

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Of a line that is too long, so much goes to quarantine.
SHOWN = 2000


@dataclass(frozen=True)
class BadLine:
    """A line that is neither a trace nor feedback, and why."""

    raw: str
    reason: str


@dataclass(frozen=True)
class Note:
    """What was not used of a line, or had to be assumed; counted, and said in the summary."""

    text: str


Record = TraceLine | Trace | Feedback | BadLine | Note


def parse_line(raw: bytes, zone: dt.tzinfo = dt.UTC) -> list[Record]:
    """Read one line: a trace and the feedback inside it, feedback, or why it is neither.

    A wrong piece of feedback inside a good trace costs that piece, not the trace.

    Args:
        raw: the line.
        zone: of times that name none.
    """
    if trace := plain_trace(raw):
        return _with_feedback(trace, zone)
    try:
        value = _read(raw)
    except ValueError as error:
        return [bad_line(raw, str(error))]
    if not isinstance(value, dict):
        return [bad_line(raw, f"not a JSON object but {type(value).__name__}")]
    if why := unstorable(value):
        return [bad_line(raw, why)]
    try:
        return _by_schema(value, raw, zone)
    except ValidationError as error:
        return [bad_line(raw, _why(error))]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return [bad_line(raw, str(error))]


def read_jsonl(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield (line number from 1, record) of a JSON-lines file; empty lines are passed over."""
    with path.open("rb") as file:
        yield from read_lines(file)


def read_lines(
    file: IO[bytes] | RawIOBase, zone: dt.tzinfo = dt.UTC
) -> Iterator[tuple[int, Record]]:
    """As ``read_jsonl``, of a file that is open."""
    number = 0
    while raw := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(raw) > MOST_LINE_BYTES:
            while rest := file.readline(MOST_LINE_BYTES):
                if rest.endswith(b"\n"):
                    break
            reason = f"a line of more than {MOST_LINE_BYTES} bytes; its beginning is kept"
            yield number, bad_line(raw[:SHOWN], reason)
            continue
        if number == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        if raw.strip():
            for record in parse_line(raw, zone):
                yield number, record


def bad_line(raw: bytes, reason: str) -> BadLine:
    """A line as it can be stored: what is no text of PostgreSQL is written as an escape.

    JSON knows no such escape, so that the line is as bad when it is tried again.
    """
    text = raw.decode(errors="backslashreplace").rstrip("\n").replace("\0", "\\x00")
    return BadLine(text, reason.encode(errors="replace").decode().replace("\0", "�"))


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("record: nested too deep to be read") from None
    except ValueError:
        raise ValueError("a number that cannot be read: it has thousands of digits") from None


def _by_schema(given: dict[str, Any], raw: bytes, zone: dt.tzinfo) -> list[Record]:
    value, said = meant(given, zone)
    notes: list[Record] = [Note(text) for text in said]
    if "kind" in given and "messages" not in given:
        feedback = Feedback.model_validate(value).of_line(raw)
        utc(feedback.ts)
        return [feedback, *notes]
    feedback_of_it = value.pop("feedback", [])
    trace = trace_line(Trace.model_validate(value), raw)
    utc(trace.values["ts"])
    trace.values["feedback"] = feedback_of_it
    return [*_with_feedback(trace, zone), *notes]


def _with_feedback(trace: TraceLine, zone: dt.tzinfo) -> list[Record]:
    given = trace.values["feedback"]
    if not given:
        return [trace]
    pieces = given if isinstance(given, list) else [given]
    return [trace, *(record for piece in pieces for record in _feedback(trace, piece, zone))]


def _feedback(trace: TraceLine, item: Any, zone: dt.tzinfo) -> list[Record]:
    where = f"feedback of {trace.prompt_id or 'a trace without prompt_id'}"
    if not isinstance(item, dict):
        return [bad_line(trace.raw, f"{where}: not a JSON object but {type(item).__name__}")]
    if not trace.prompt_id:
        return [bad_line(trace.raw, "prompt_id: needed where a trace brings feedback")]
    try:
        value, said = meant({"prompt_id": trace.prompt_id, "kind": None} | item, zone)
        feedback = Feedback.model_validate(value).of_line(trace.raw)
        utc(feedback.ts)
    except ValidationError as error:
        return [bad_line(trace.raw, f"{where}: {_why(error)}")]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return [bad_line(trace.raw, f"{where}: {error}")]
    return [feedback, *(Note(text) for text in said)]


def _why(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in e['loc']) or 'record'}: {e['msg']}"
        for e in error.errors()[:5]
    )
