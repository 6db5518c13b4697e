"""Reviews by spreadsheet: open items out as CSV or JSON lines, reviews back in.

Not here: their cells (``sheet_cells.py``), and reviews in MLflow (``mlflow_push.py``,
``mlflow_pull.py``).

A verdict's time is the column ``ts``, or when the file was last written. What a reviewer has said
last about an answer is not written down again when a sheet comes back a second time. Comments
stay in the sheet.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine

from loop_pipeline.labels.reviews.sheet_cells import guarded, json_rows, sheet_rows
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.jsonl import BadLine, Record, bad_line, parse_line
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
# Before the name of a sheet where its verdicts say where they come from.
SHEET = "sheet "


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
    source = f"{SHEET}{path.name}"
    said = _last_words(engine, source)
    saved = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).isoformat()
    for line, row in sheet_rows(path):
        record = row if isinstance(row, BadLine) else _verdict(row, reviewer, saved)
        if record is None:
            blank += 1
        elif isinstance(record, Feedback) and said.get(_who(record)) == _words(record):
            repeated += 1
        else:
            records.append((line, record))
    imported = import_records(engine, records, source=source, reviews=True)
    return SheetRead(imported=imported, blank=blank, repeated=repeated)


def _verdict(row: dict[str, str], reviewer: str, saved: str) -> Record | None:
    """A row as feedback, as a bad line, or None if nothing was answered."""
    # A picture of a hand or a tick may come with a sign that says how to show it.
    said = row.get("good", "").strip().lower().rstrip("\ufe0f\ufe0e")
    if not said:
        return None
    who, when = row.get("reviewer", "").strip() or reviewer, row.get("ts", "").strip() or saved
    kept = {name: row.get(name, "") for name in ("prompt_id", *ASKED)}
    shown = json.dumps(kept | {"reviewer": who, "ts": when})
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
            actor=who,
            ts=moment(when)[0],
        )
        utc(verdict.ts)
    except ValidationError as error:
        first = error.errors()[0]
        return BadLine(shown, f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}")
    except (ValueError, OverflowError) as error:
        return BadLine(shown, str(error))
    return verdict


def verdict_again(raw: str) -> list[Record]:
    """What a line of a sheet that is in quarantine says by now; nothing if it is no verdict."""
    value = next((row for _, row in json_rows(raw)), BadLine(raw, "an empty line"))
    if isinstance(value, BadLine):
        return [value]
    if "kind" in value:  # a verdict that was read, and then refused
        return parse_line(raw.encode())
    found = _verdict(value, value.get("reviewer", ""), value.get("ts", ""))
    return [found or bad_line(raw.encode(), "good: there is no verdict")]


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
