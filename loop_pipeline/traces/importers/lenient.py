"""What is meant by a line that is not written as the schema has it, where only one thing can be.

Not here: what is wrong with a line (``records.py``), and lines as the schema has them
(``plain_lines.py``).

A number as an id is that text, a null is an absent field, a Unix time has the unit that its size
says. Where two things could be meant, nothing is changed, and the schema refuses it.
"""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime
from typing import Any

from loop_pipeline.traces.messages import content_text
from loop_pipeline.traces.records import Feedback, Trace
from loop_pipeline.traces.token_parts import add_parts

TEXTS = ("prompt_id", "user", "user_hash", "conversation_id", "response_id", "app", "task", "actor")
# A Unix time this large has the next smaller unit: seconds, milliseconds, micro-, nanoseconds.
UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
UNIX = re.compile(r"\d{9,19}(?:\.\d+)?", re.ASCII)
MAIL = re.compile(
    r"(?:\w{3}, )?\d{1,2} \w{3} \d{4} \d\d:\d\d(?::\d\d)? (?:[+-]\d{4}|GMT|UTC|UT|Z)", re.ASCII
)
ISO = re.compile(r"(\d{4}-?\d\d-?\d\d(?:[T ][\d:.,]+)?) ?([+-]\d\d(?::?\d\d)?)?(?: ?(UTC|GMT|Z))?")
# What providers say where an answer is a call.
CALLED = ("tool_calls", "tool_call", "function_call", "tool_use")
NAME_CHARS = 40


def meant(value: dict[str, Any], zone: dt.tzinfo) -> tuple[dict[str, Any], list[str]]:
    """The line as the schema has it, and notes on what was not used or had to be assumed.

    Args:
        value: the line, of a trace or of feedback.
        zone: of times that name none.

    Raises:
        ValueError: it has no answer, or no time; says which.
    """
    feedback = "kind" in value and "messages" not in value
    known = Feedback.model_fields if feedback else Trace.model_fields
    notes = [f"field {name[:NAME_CHARS]!r} is not used" for name in value if name not in known]
    found = {n: v for n, v in value.items() if n in known and (v is not None or n == "output")}
    for name in TEXTS:
        if type(found.get(name)) is int:
            found[name] = str(found[name])
    if "ts" in found:
        found["ts"], assumed = moment(found["ts"], zone)
        notes += [f"time without a zone is taken for {zone}"] if assumed else []
    if not feedback:
        _answer(found)
        notes += add_parts(found)
    return found, notes


def moment(given: Any, zone: dt.tzinfo = dt.UTC) -> tuple[Any, bool]:
    """A time as a date, and whether its zone was assumed; what is no time stays as it is."""
    if type(given) in (int, float) or (isinstance(given, str) and UNIX.fullmatch(given)):
        return _unix(given), False
    if not isinstance(given, str):
        return given, False
    found = _written(given.strip())
    if found is None:
        return given, False
    return (found, False) if found.tzinfo else (found.replace(tzinfo=zone), True)


def _unix(given: Any) -> Any:
    number = float(given)
    for most, parts in UNITS:
        if abs(number) < most:
            if parts <= 1e3:
                return dt.datetime.fromtimestamp(number / parts, dt.UTC)
            # A float has too few digits for these.
            micro = int(str(given).partition(".")[0]) // int(parts / 1e6)
            return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micro)
    return given


def _written(text: str) -> dt.datetime | None:
    if MAIL.fullmatch(text):
        return parsedate_to_datetime(text)
    if (match := ISO.fullmatch(text)) is None:
        return None
    when, offset, name = match.groups()
    try:
        return dt.datetime.fromisoformat(when + (offset or ("+00:00" if name else "")))
    except ValueError:
        return None


def _answer(found: dict[str, Any]) -> None:
    """The answer as one text.

    Raises:
        ValueError: there is none.
    """
    output = found.get("output")
    if isinstance(output, list) and output and (text := content_text(output)) is not None:
        found["output"] = text
    if output is not None or found.get("tool_calls"):
        return
    if found.get("finish_reason") in CALLED:
        raise ValueError(
            "output: the answer is a tool call, and the call is not on the line;"
            " export it as tool_calls"
        )
    if "output" in found:
        raise ValueError("output: null, there is no answer")
