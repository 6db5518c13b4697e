"""Cells of sheets: guarded against what spreadsheets do to them, and read back whatever they did.

Not here: what a row says (``spreadsheets.py``).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.traces.importers.jsonl import BadLine, bad_line

# A spreadsheet takes cells that begin like this for formulas, also full-width and after what it
# trims; the sign before them is its own mark of a text.
SIGNS = "=+\\-@＝＋－＠﹦﹢﹣﹫−"
TRIMMED = '[\\s"\ufeff\u200b\u2060\u00ad]*'
FORMULA = re.compile(rf"['\t\r]|{TRIMMED}[{SIGNS}]")
# Where semicolons or tabs separate, a cell goes on as another one, whatever is quoted.
NEXT_CELL = re.compile(rf"([;\t]{TRIMMED}'*)(?=[{SIGNS}])")
GUARD = "'"
NO_ROW = "no row of a CSV"


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


def sheet_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | BadLine]]:
    """(line or row number, cells by column) of a sheet; column names in lower case."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")  # Excel's "CSV" without "UTF-8"
    if path.suffix == ".jsonl":
        yield from json_rows(text)
        return
    csv.field_size_limit(2**31 - 1)
    lines = list(io.StringIO(text, newline=""))
    for delimiter in ",;\t":
        # Not strictly: a name may be damaged that is not one of those that count.
        head = csv.reader(lines, delimiter=delimiter)
        names = next(head, [])
        if {"prompt_id", "good"} <= {name.strip().lower() for name in names}:
            yield from _csv_rows(lines[head.line_num :], names, delimiter)
            return
    raise ValueError(f"{path.name} has no columns prompt_id and good")


def _csv_rows(
    lines: list[str], names: list[str], delimiter: str
) -> Iterator[tuple[int, dict[str, str] | BadLine]]:
    """The rows of a CSV; a quote that never ends costs its own line, not all that follow it."""
    reader = csv.DictReader(lines, names, delimiter=delimiter, strict=True)
    start, number = 0, 1
    while True:
        number, before = number + 1, reader.line_num
        try:
            row = next(reader, None)
        except csv.Error as error:
            line = lines[start + before]
            yield number, bad_line(line.encode(errors="replace"), f"{NO_ROW}: {error}")
            start += before + 1
            reader = csv.DictReader(lines[start:], names, delimiter=delimiter, strict=True)
            continue
        if row is None:
            return
        yield number, {name: unguarded(cell) for name, cell in _lower(row).items()}


def json_rows(text: str) -> Iterator[tuple[int, dict[str, str] | BadLine]]:
    """The rows of JSON lines."""
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
