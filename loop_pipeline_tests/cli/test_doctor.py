"""`loop doctor` on a table, as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loop_pipeline.cli.main import app
from loop_pipeline_tests.doctor.test_rehearsal import rows, write


def test_a_table_becomes_text_json_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    lines = rows(300)
    for i, line in enumerate(lines):
        line |= {"small.quality": int(i % 3 > 0), "small.score": i % 3 + i / 1_000}
    table, html = write(tmp_path / "mine.jsonl", lines), tmp_path / "page.html"
    done = CliRunner().invoke(app, ["doctor", "--outcomes", str(table), "--html", str(html)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[2].startswith("It ")
    assert "random, same share" in done.output
    assert "<svg" in html.read_text()
    again = CliRunner().invoke(app, ["doctor", "--outcomes", str(table), "--json"])
    report = json.loads(again.output)
    assert report["verdict"] in done.output
    assert {line["name"] for line in report["routers"]} >= {"policy", "oracle", "always big"}
    assert not (tmp_path / "home").exists(), "a table of one's own needs no store"
