"""Reviews by spreadsheet: open items out as CSV or JSON lines, reviews back in.

Not here: reviews in MLflow (``mlflow_push.py``, ``mlflow_pull.py``).

A verdict's time is the column ``ts``, or when the file was last written. What a reviewer has said
last about an answer is not written down again when a sheet comes back a second time. Comments
stay in the sheet.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine

from loop_pipeline.store.database import read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.jsonl import BadLine, Record, bad_line
from loop_pipeline.traces.importers.lenient import moment
from loop_pipeline.traces.ingest import import_records
from loop_pipeline.traces.records import Feedback
from loop_pipeline.traces.storable import unstorable
from loop_pipeline.traces.trace_lines import utc

SHOWN: tuple[str, ...] = ("prompt_id", "task", "request", "context", "answer", "flags")
ASKED: tuple[str, ...] = ("good", "edited_output", "reviewer", "comment")
YES = ("1", "1.0", "yes", "y", "true", "good", "ok", "ja", "oui", "si", "sí", "✓", "✔", "☑", "👍")
NO = ("0", "0.0", "no", "n", "false", "bad", "nein", "non", "✗", "✘", "❌", "👎")
VERDICTS: dict[str, float] = {**dict.fromkeys(YES, 1.0), **dict.fromkeys(NO, 0.0)}
# A spreadsheet takes cells that begin like this for formulas, also full-width and after what it
# trims; the sign before them is its own mark of a text.
SIGNS = "=+\\-@＝＋－＠﹦﹢﹣﹫−"
TRIMMED = '[\\s"\ufeff\u200b\u2060\u00ad]*'
FORMULA = re.compile(rf"['\t\r]|{TRIMMED}[{SIGNS}]")
# Where semicolons or tabs separate, a cell goes on as another one, whatever is quoted.
NEXT_CELL = re.compile(rf"([;\t]{TRIMMED}'*)(?=[{SIGNS}])")
GUARD = "'"


class SheetRead(BaseModel):
    """What a sheet brought."""

    imported: Imported
    blank: int
    """Rows without a verdict."""
    repeated: int
    """Verdicts that say what their reviewer said last."""

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.imported.feedback_only()}; {self.blank} rows without a verdict, "
            f"{self.repeated} verdicts that were there"
        )


def write_sheet(items: pd.DataFrame, path: Path) -> None:
    """Write open items for people to fill in: CSV, or JSON lines if the name ends in .jsonl.

    Args:
        items: as ``reviews.queue.open_items`` gives them.
        path: the file; an existing one is replaced.
    """
    rows = [_row(item) for item in items.to_dict("records")]
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        out = io.StringIO()
        writer = csv.DictWriter(out, [*SHOWN, *ASKED], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({name: guarded(cell) for name, cell in row.items()} for row in rows)
        text = "\ufeff" + out.getvalue()  # without it Excel reads UTF-8 as something else
    path.write_text(text, encoding="utf-8", newline="")


def _row(item: Mapping[Any, Any]) -> dict[str, str]:
    turns = item["messages"]
    request = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    if len(turns) == 1:
        request = str(turns[0]["content"])
    shown = (item["prompt_id"], item["task"] or "", request, item["context"] or "", item["output"])
    flags = "; ".join(str(reason) for reason in item["flags"] or [])
    return dict(zip(SHOWN, (*shown, flags), strict=True)) | dict.fromkeys(ASKED, "")


def guarded(cell: str) -> str:
    """The cell as a spreadsheet may have it: what looks like a formula is marked as text."""
    cell = NEXT_CELL.sub(rf"\1{GUARD}", cell)
    return GUARD + cell if FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The cell as it was before ``guarded``."""
    marked = cell.startswith(GUARD) and FORMULA.match(cell[1:])
    return NEXT_CELL.sub(_less_one, cell[1:] if marked else cell)


def _less_one(match: re.Match[str]) -> str:
    return match[0].removesuffix(GUARD)


def read_sheet(engine: Engine, path: Path, *, reviewer: str) -> SheetRead:
    """Take the verdicts of a sheet in. The same sheet twice gives the same rows.

    Args:
        engine: the store.
        path: a sheet that ``write_sheet`` made, whatever a spreadsheet did to it: other columns,
            another order, semicolons.
        reviewer: whose verdicts they are, where the column ``reviewer`` is empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no columns ``prompt_id`` and ``good``.
    """
    blank, repeated = 0, 0
    records: list[tuple[int, Record]] = []
    source = f"sheet {path.name}"
    said = _last_words(engine, source)
    saved = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).isoformat()
    for line, row in _rows(path):
        record = row if isinstance(row, BadLine) else _verdict(row, reviewer, saved)
        if record is None:
            blank += 1
        elif isinstance(record, Feedback) and said.get(_who(record)) == _words(record):
            repeated += 1
        else:
            records.append((line, record))
    imported = import_records(engine, records, source=source, reviews=True)
    return SheetRead(imported=imported, blank=blank, repeated=repeated)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | BadLine]]:
    """(line or row number, cells by column) of a sheet; column names in lower case."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")  # Excel's "CSV" without "UTF-8"
    if path.suffix == ".jsonl":
        yield from _json_rows(text)
        return
    csv.field_size_limit(2**31 - 1)
    for delimiter in ",;\t":
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        if {"prompt_id", "good"} <= {str(name).strip().lower() for name in reader.fieldnames or ()}:
            for number, row in enumerate(reader, start=2):
                yield number, {name: unguarded(cell) for name, cell in _lower(row).items()}
            return
    raise ValueError(f"{path.name} has no columns prompt_id and good")


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, str] | BadLine]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, bad_line(line.encode(errors="replace"), f"no JSON object: {error}")
            continue
        if not isinstance(value, dict):
            yield number, bad_line(line.encode(), f"no JSON object but {type(value).__name__}")
            continue
        yield number, _lower(value)


def _lower(row: Mapping[str | None, Any]) -> dict[str, str]:
    return {
        str(name).strip().lower(): "" if cell is None else str(cell) for name, cell in row.items()
    }


def _verdict(row: dict[str, str], reviewer: str, saved: str) -> Record | None:
    """A row as feedback, as a bad line, or None if nothing was answered."""
    # A picture of a hand or a tick may come with a sign that says how to show it.
    said = row.get("good", "").strip().lower().rstrip("\ufe0f\ufe0e")
    if not said:
        return None
    shown = json.dumps({name: row.get(name, "") for name in ("prompt_id", *ASKED)})
    if said not in VERDICTS:
        allowed = ", ".join(VERDICTS)
        return bad_line(shown.encode(), f"good: {said!r} is none of {allowed}")
    if why := unstorable(row):
        return bad_line(shown.encode(), why)
    try:
        verdict = Feedback(
            prompt_id=row.get("prompt_id", ""),
            kind="review",
            value=VERDICTS[said],
            edited_output=row.get("edited_output") or None,
            actor=row.get("reviewer", "").strip() or reviewer,
            ts=moment(row.get("ts", "").strip() or saved)[0],
        )
        utc(verdict.ts)
    except ValidationError as error:
        first = error.errors()[0]
        return BadLine(shown, f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}")
    except (ValueError, OverflowError) as error:
        return BadLine(shown, str(error))
    return verdict


def _last_words(engine: Engine, source: str) -> dict[tuple[str, str], tuple[float, str]]:
    """What each reviewer said last about each answer, or in this sheet about unknown ones."""
    held = read(engine, QuarantineRow, source=source)
    early = [
        Feedback.model_validate_json(raw) for raw in held.loc[held["prompt_id"].notna(), "raw"]
    ]
    said = {_who(record): _words(record) for record in early}
    rows = read(engine, FeedbackRow, kind="review").sort_values("ts", kind="stable")
    columns = ("prompt_id", "actor", "value", "edited_output")
    cells = zip(*(rows[name] for name in columns), strict=True)
    return said | {(p, actor or ""): (value, edited or "") for p, actor, value, edited in cells}


def _who(record: Feedback) -> tuple[str, str]:
    return record.prompt_id, record.actor or ""


def _words(record: Feedback) -> tuple[float, str]:
    return record.value or 0.0, record.edited_output or ""
