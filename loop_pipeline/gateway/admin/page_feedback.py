"""Feedback that a person gives on the page: into the spool, like that of applications.

Not here: feedback over the API (``POST /v1/feedback``), and what it teaches (``labels``).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import orjson

from loop_pipeline.gateway.segments import Segment

# What the page's buttons give; a person who edits an answer says what it should have been.
KINDS = ("thumb_up", "thumb_down", "modified")


class BadFeedback(ValueError):
    """The page sent something that is no feedback; says what."""


def feedback_row(body: bytes, actor: str, now: dt.datetime) -> dict[str, Any]:
    """A line of the import format.

    Args:
        body: JSON with prompt_id, kind, and edited_output if the kind is ``modified``.
        actor: who gives it; the page cannot choose.
        now: when.

    Raises:
        BadFeedback: names the field.
    """
    try:
        said = orjson.loads(body)
    except ValueError as error:
        raise BadFeedback(f"not JSON: {error}") from None
    if not isinstance(said, dict):
        raise BadFeedback("not a JSON object")
    prompt_id, kind = said.get("prompt_id"), said.get("kind")
    if not isinstance(prompt_id, str) or not prompt_id:
        raise BadFeedback("prompt_id: the id of a request is missing")
    if kind not in KINDS:
        raise BadFeedback(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    row = {"prompt_id": prompt_id, "kind": kind, "actor": actor, "ts": now.isoformat()}
    if kind == "modified":
        edited = said.get("edited_output")
        if not isinstance(edited, str) or not edited.strip():
            raise BadFeedback("edited_output: the better answer is missing")
        row["edited_output"] = edited
    return row


def write_feedback(spool: Path, row: dict[str, Any]) -> None:
    """Write a line in a segment of its own, on disk once this returns.

    Raises:
        OSError: the disk is full, or does not work.
    """
    segment = Segment(spool)
    segment.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    segment.seal()
