"""``loop import`` of a folder, and ``loop quarantine``, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from loop_pipeline.cli.main import app
from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
KEY = "sk-proj-abcdefghijklmnop0123456789"


def loop(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_a_folder_of_all_kinds_of_files_comes_in_as_far_as_it_can(
    store_url: str, trace: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    (folder / "deep").mkdir(parents=True)
    (folder / "good.jsonl").write_text(json.dumps(trace(1)) + "\n")
    (folder / "deep" / "half.jsonl").write_text(json.dumps(trace(2)) + "\n{broken\n")
    (folder / "foreign.json").write_text('{"trace": {}, "observations": []}')
    (folder / "notes.txt").write_text("call me back\n")
    (folder / "empty.jsonl").touch()
    done = loop("import", str(folder))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("5 files, 3 could not be read: 2 new traces") for line in lines)
    assert "loop quarantine list" in lines[-1]
    assert "Langfuse" in done.stderr
    assert done.stderr.count("loop: ") == 3
    engine = open_store(store_url)
    assert sorted(read(engine, TraceRow)["prompt_id"]) == ["p1", "p2"]
    engine.dispose()


def test_a_line_is_listed_shown_and_brought_in(
    store_url: str, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "very-secret-value")
    review = {"kind": "review", "value": 1, "actor": "ann", "ts": "2026-09-04T00:00:00Z"}
    secret_line = trace(2, tokens_in=-1, output=f"\x1b[31m {KEY} very-secret-value") | {
        "tags": {"api_key": "hunter2-hunter2", "note": "kept"}
    }
    loop("import", str(jsonl(trace(1, feedback=[review]), secret_line, name="log.jsonl")))
    listed = loop("quarantine", "list")
    assert "log.jsonl" in listed.stdout
    assert "2 lines in quarantine" in listed.stdout
    engine = open_store(store_url)
    held = read(engine, QuarantineRow).set_index("line")["quarantine_id"]

    shown = loop("quarantine", "show", held[2][:12]).stdout
    assert "tokens_in: Input should be greater than or equal to 0" in shown
    assert "to do   correct the field that is named" in shown
    assert "kept" in shown
    for hidden in (KEY, "very-secret-value", "hunter2", "\x1b"):
        assert hidden not in shown
    assert "--reviews" in loop("quarantine", "show", held[1]).stdout

    tried = loop("quarantine", "retry", "--source", "log.jsonl", "--reviews")
    assert tried.exit_code == 3
    assert "1 lines have left the quarantine, 1 stay" in tried.stdout
    assert read(engine, FeedbackRow)["actor"].tolist() == ["ann"]
    assert "imported" in loop("quarantine", "show", held[1]).stdout
    assert loop("quarantine", "retry", held[1]).exit_code == 0
    engine.dispose()


def test_a_verdict_of_a_sheet_that_was_not_understood_is_tried_as_a_verdict(
    store_url: str, trace: Make, jsonl: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loop_pipeline.labels.reviews import spreadsheets

    loop("import", str(jsonl(trace(1), trace(2), name="log.jsonl")))
    sheet = tmp_path / "reviews.csv"
    sheet.write_text("prompt_id,good\np1,joo\np2,yes\n")
    loop("review", "import", str(sheet), "--reviewer", "ann")
    assert loop("quarantine", "retry").exit_code == 3
    monkeypatch.setitem(spreadsheets.VERDICTS, "joo", 1.0)
    assert loop("quarantine", "retry").exit_code == 0
    engine = open_store(store_url)
    reviews = read(engine, FeedbackRow)
    assert reviews[["prompt_id", "actor", "value"]].sort_values("prompt_id").values.tolist() == [
        ["p1", "ann", 1.0],
        ["p2", "ann", 1.0],
    ]
    assert reviews["ts"].nunique() == 1, "when the sheet was written, not when it was tried again"
    engine.dispose()
