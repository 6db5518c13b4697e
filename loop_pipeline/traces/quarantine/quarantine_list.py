"""What is in quarantine: how many lines of which file for which reason, and one line in full.

Not here: putting lines there (``bad_lines.py``), and taking them out (``quarantine_retry.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Engine, select

from loop_pipeline.store.tables import QuarantineRetryRow, QuarantineRow

# What differs between lines with one fault: quoted values, ids, numbers.
OWN = re.compile(r"'[^']*'|\"[^\"]*\"|(?<=prompt_id )\S+|(?<=stored under )\S+|\b[\d.:TZ+-]*\d\b")
# What helps, by what a reason says; the first that is found counts.
ADVICE = (
    ("is no review", "if reviewers wrote that file: loop quarantine retry --reviews"),
    (
        "already stored with another",
        "two records have one id: give the other one an id of its own in the export, import it",
    ),
    ("its trace was refused", "it speaks of an answer that is not stored; mend that trace first"),
    ("lies in the future", "look at the clock of whoever wrote it, correct ts, import the file"),
    ("ts:", "correct ts in the export (ISO 8601 with a zone, or Unix time), import the file again"),
    (
        "the answer is a tool call",
        "export the calls as tool_calls; with them the line is a trace",
    ),
    ("its beginning is kept", "split the record or leave large fields out, import the file again"),
    ("NUL character", "take the character U+0000 out in the export, import the file again"),
    ("half a character", "the log cut a text inside a character; mend the export, import again"),
    ("the rest of the document", "the file is cut or damaged; get it anew, import it again"),
    ("no row of a CSV", "close the quote in that row, or save the sheet anew; import it again"),
    ("not JSON", "the line is cut or no JSON; mend the export, import the file again"),
    ("is none of", "write yes or no in the column good, import the sheet again"),
    ("the database refuses", "correct the value that is named, import the file again"),
)
ELSE = "correct the field that is named in the export, import the file again"
LATER = "after an upgrade of loop_pipeline: loop quarantine retry"


@dataclass(frozen=True)
class Kind:
    """What lines have in common that came with one file on one day and have one fault."""

    source: str
    day: str
    reason: str


@dataclass
class Quarantine:
    """What is in quarantine."""

    kinds: dict[Kind, list[str]] = field(default_factory=dict)
    """Ids of the lines, by kind."""
    waiting: int = 0
    """Feedback that waits for its trace: nothing is wrong with it."""


def chosen(
    source: str | None = None, reason: str | None = None, ids: tuple[str, ...] = ()
) -> list[ColumnElement[bool]]:
    """Bad lines of this file, with this in their reason, or whose ids begin like this.

    Args:
        source: name of the file.
        reason: words of the reason, in whatever case.
        ids: beginnings of ids; empty: all.
    """
    row = QuarantineRow
    found: list[ColumnElement[bool]] = [row.prompt_id.is_(None)]
    if source is not None:
        found.append(row.source == source)
    if reason is not None:
        found.append(row.reason.icontains(reason, autoescape=True))
    if ids:
        one, *others = (row.quarantine_id.startswith(name, autoescape=True) for name in ids)
        for other in others:
            one |= other
        found.append(one)
    return found


def in_quarantine(engine: Engine, where: list[ColumnElement[bool]]) -> Quarantine:
    """The lines that were chosen, by kind, the most frequent kind first."""
    row, found = QuarantineRow, Quarantine()
    columns = select(row.quarantine_id, row.source, row.reason, row.ts).order_by(
        row.source, row.line, row.quarantine_id
    )
    with engine.connect() as connection:
        for name, source, reason, ts in connection.execute(columns.where(*where)):
            kind = Kind(source, ts.date().isoformat(), OWN.sub("…", reason))
            found.kinds.setdefault(kind, []).append(name)
        waiting = connection.execute(select(row.line).where(row.prompt_id.is_not(None)))
        found.waiting = len(waiting.all())
    found.kinds = dict(sorted(found.kinds.items(), key=lambda item: -len(item[1])))
    return found


def line_in_full(engine: Engine, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A line by the beginning of its id, and its history.

    Raises:
        ValueError: no line has such an id, or several have.
    """
    row, past = QuarantineRow, QuarantineRetryRow
    with engine.connect() as connection:
        found = connection.execute(
            select(row.__table__).where(row.quarantine_id.startswith(name, autoescape=True))
        ).mappings()
        rows = [dict(one) for one in found.fetchmany(2)]
        tried = connection.execute(
            select(past.__table__)
            .where(past.quarantine_id.startswith(name, autoescape=True))
            .order_by(past.at)
        )
        history = [dict(one) for one in tried.mappings()]
    names = {one["quarantine_id"] for one in (*rows, *history)}
    if len(names) != 1:
        said = "several lines have" if names else "no line has"
        raise ValueError(f"{said} an id that begins with {name!r}; see loop quarantine list")
    return (rows or [_gone(history[-1])])[0], history


def _gone(last: dict[str, Any]) -> dict[str, Any]:
    """A line that was imported since, as it was in quarantine."""
    names = ("quarantine_id", "source", "line", "reason", "raw")
    return {name: last[name] for name in names} | {"prompt_id": None, "ts": last["quarantined_at"]}


def advice(reason: str) -> str:
    """What to do about a line."""
    return next((said for words, said in ADVICE if words in reason), ELSE)
