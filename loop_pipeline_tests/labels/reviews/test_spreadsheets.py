"""A sheet goes out, a spreadsheet does its worst, and the verdicts come back."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from loop_pipeline.labels.reviews.queue import open_items, update_queue
from loop_pipeline.labels.reviews.sheet_cells import guarded, unguarded
from loop_pipeline.labels.reviews.spreadsheets import read_sheet, write_sheet
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow
from loop_pipeline.traces.ingest import import_file


@pytest.fixture
def waiting(
    engine: Engine, trace: Callable[..., Any], jsonl: Callable[..., Path], add_signals: Any
) -> Engine:
    """A store in which p0 to p5 wait for review; their answers are what spreadsheets execute."""
    outputs = ["=1+1", "+1", "-1", "@x", "plain", "'quoted'"]
    import_file(engine, jsonl(*(trace(i, output=o, context="c") for i, o in enumerate(outputs))))
    add_signals(engine, [f"p{i}" for i in range(6)])
    update_queue(engine, base_rate=1.0)
    return engine


def _cells(path: Path) -> dict[str, dict[str, str]]:
    text = path.read_text("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return {row["prompt_id"]: row for row in rows}


def _rewrite(path: Path, rows: list[dict[str, str]], **style: Any) -> Path:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), **style)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(out.getvalue(), encoding=style.get("encoding", "utf-8"), newline="")
    return path


def test_what_is_exported_is_readable_and_harmless(waiting: Engine, tmp_path: Path) -> None:
    write_sheet(open_items(waiting), tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    cells = _cells(tmp_path / "q.csv")
    assert set(cells) == {f"p{i}" for i in range(6)}
    assert cells["p0"]["answer"] == "'=1+1"
    assert cells["p4"]["answer"] == "plain"
    assert cells["p4"]["request"] == "system: Classify the request.\n\nuser: where is order 4?"
    assert cells["p4"]["context"] == "c"
    assert all(not row[name] for row in cells.values() for name in ("good", "reviewer", "comment"))
    write_sheet(open_items(waiting, limit=2), tmp_path / "q.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert set(lines[0]) == set(cells["p0"])


@given(cell=st.text(alphabet="=+-@'\t\rab \n1", max_size=6))
def test_every_cell_comes_back_unchanged_and_none_is_a_formula(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_verdicts_come_back_once_under_their_reviewers_names(
    waiting: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "q.csv"
    write_sheet(open_items(waiting), path)
    rows = list(_cells(path).values())
    answers = {"p0": "1", "p1": "NO", "p2": "True", "p3": "bad", "p4": "maybe"}
    for row in rows:
        row["good"] = answers.get(row["prompt_id"], "")
        row["reviewer"] = "bob" if row["prompt_id"] == "p3" else ""
        row["edited_output"] = guarded("-refund") if row["prompt_id"] == "p1" else ""
    rows.append(dict(rows[0], prompt_id="unknown", good="yes"))
    _rewrite(path, rows)
    done = read_sheet(waiting, path, reviewer="ann")
    assert (done.imported.feedback, done.imported.waiting, done.blank) == (4, 1, 1)
    stored = read(waiting, FeedbackRow).set_index("prompt_id")
    assert stored["value"].to_dict() == {"p0": 1.0, "p1": 0.0, "p2": 1.0, "p3": 0.0}
    assert stored["actor"].to_dict() == {"p0": "ann", "p1": "ann", "p2": "ann", "p3": "bob"}
    assert stored.loc["p1", "edited_output"] == "-refund"
    held = read(waiting, QuarantineRow).set_index("line")
    assert held["reason"].str.contains("'maybe' is none of").sum() == 1
    assert set(held["prompt_id"].dropna()) == {"unknown"}
    assert set(held.index) <= set(range(2, 9))

    os.utime(path, (2_000_000_000, 2_000_000_000))  # saved again, nothing changed
    again = read_sheet(waiting, path, reviewer="ann")
    assert (again.imported.feedback, again.repeated) == (0, 5)
    assert again.imported.waiting == 1
    assert len(read(waiting, FeedbackRow)) == 4
    rows[0]["good"] = "0" if rows[0]["good"] == "1" else "1"
    rows[0]["prompt_id"] = "p0"
    _rewrite(path, [dict(rows[0], good="0", reviewer="")])
    assert read_sheet(waiting, path, reviewer="ann").imported.feedback == 1  # a changed mind


@pytest.mark.parametrize("case", ["semicolons", "crlf and tabs", "reordered", "old Excel"])
def test_what_spreadsheets_do_is_understood(waiting: Engine, tmp_path: Path, case: str) -> None:
    path = tmp_path / "q.csv"
    write_sheet(open_items(waiting), path)
    rows = [dict(row, good="yes", edited_output="grüße; a,b") for row in _cells(path).values()]
    style: dict[str, Any] = {"lineterminator": "\n"}
    if case == "semicolons":
        style["delimiter"] = ";"
    if case == "crlf and tabs":
        style |= {"delimiter": "\t", "lineterminator": "\r\n"}
    if case == "reordered":
        rows = [{"Extra": "x"} | {k.upper(): row[k] for k in reversed(list(row))} for row in rows]
    _rewrite(path, rows, **style)
    if case == "old Excel":
        path.write_bytes(path.read_text("utf-8").encode("cp1252"))
    assert read_sheet(waiting, path, reviewer="ann").imported.feedback == 6
    assert set(read(waiting, FeedbackRow)["edited_output"]) == {"grüße; a,b"}


def test_json_lines_round_trip(waiting: Engine, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    write_sheet(open_items(waiting), path)
    rows = [json.loads(line) | {"good": True} for line in path.read_text().splitlines()]
    rows[0] |= {"good": 0, "ts": "2026-10-01T00:00:00Z"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_sheet(waiting, path, reviewer="ann").imported.feedback == 6
    stored = read(waiting, FeedbackRow).set_index("prompt_id")
    first = stored.loc[rows[0]["prompt_id"]]
    assert (first["value"], first["ts"].isoformat()) == (0.0, "2026-10-01T00:00:00+00:00")


def test_a_file_that_is_no_sheet_is_refused(waiting: Engine, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no columns prompt_id and good"):
        read_sheet(waiting, path, reviewer="ann")
    with pytest.raises(FileNotFoundError):
        read_sheet(waiting, tmp_path / "none.csv", reviewer="ann")


@pytest.mark.parametrize("bad", ['{"prompt', "[1]", "null", "word", "[" * 100_000])
def test_a_bad_line_of_a_sheet_costs_itself(waiting: Engine, tmp_path: Path, bad: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"prompt_id": "p0", "good": 1}}\n{bad}\n{{"prompt_id": "p1", "good": 0}}\n')
    done = read_sheet(waiting, path, reviewer="ann").imported
    assert (done.feedback, done.quarantined) == (2, 1)
    assert "no JSON object" in read(waiting, QuarantineRow)["reason"].iloc[0]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+13:00", "2998-01-01T00:00:00Z", "soon"])
def test_a_verdict_of_no_possible_time_costs_itself(
    waiting: Engine, tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"prompt_id,good,ts\np0,yes,{moment}\np1,yes,2026-10-01T00:00:00Z\n")
    done = read_sheet(waiting, path, reviewer="ann").imported
    assert (done.feedback, done.quarantined) == (1, 1)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("Y", 1),
        (" nein ", 0),
        ("👍", 1),
        ("👎", 0),
        ("✔️", 1),
        ("❌", 0),
        ("x", None),
        ("maybe", None),
    ],
)
def test_verdicts_are_read_as_people_type_them(
    waiting: Engine, tmp_path: Path, word: str, value: float | None
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"prompt_id,good\np0,{word}\n", encoding="utf-8")
    done = read_sheet(waiting, path, reviewer="ann").imported
    assert (done.feedback, done.quarantined) == ((1, 0) if value is not None else (0, 1))
    assert read(waiting, FeedbackRow)["value"].tolist() == ([] if value is None else [value])


@pytest.mark.parametrize(
    "cell",
    [
        "＝1",
        "＋1",
        "－1",
        "＠x",
        " =1",
        "\n=1",
        "\ufeff=1",
        '"=1',
        "\u200b+1",
        "b;=A1",
        "b\t@x",
        "\r=1",
    ],
)
def test_no_cell_begins_a_formula_for_any_spreadsheet(cell: str) -> None:
    kept = guarded(cell)
    assert unguarded(kept) == cell
    for part in kept.replace("\t", ";").split(";")[0 if cell[0] != "\r" else 1 :]:
        assert not part.strip(' "\n\r\ufeff\u200b').startswith(
            ("=", "+", "@", "＝", "＋", "－", "＠")
        )
