"""Prices of today for answers of before: shown, and written only where there was none."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from loop_pipeline.cli.main import app
from loop_pipeline.costs.prices import LIST_PRICES, prices_of
from loop_pipeline.report.reprice import reprice, reprice_lines
from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.tables import TraceRow
from loop_pipeline.store.unpriced_traces import unpriced_models, unpriced_remark
from loop_pipeline.traces.ingest import import_file

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

FIRST, LAST = dt.date(2026, 9, 1), dt.date(2026, 9, 3)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "- model: own-9\n  input: 1\n  output: 2\n"
        "- model: claude-opus-5\n  input: 10\n  output: 50\n"
    )
    return path


@pytest.fixture
def answers(trace: Make, jsonl: Write) -> Path:
    unknown = [trace(n, model="own-9", tokens_in=1000, tokens_out=10) for n in range(5)]
    listed = [trace(n, tokens_in=1000, tokens_out=10) for n in range(5, 8)]
    lost = trace(8, model="lost", tokens_in=3)
    return jsonl(*unknown, *listed, lost, trace(9), trace(10, producer="student", model="own-9"))


def _costs(engine: Engine) -> dict[str, float]:
    return read(engine, TraceRow).set_index("prompt_id")["cost_usd"].to_dict()


def test_nothing_is_written_but_what_was_asked_for(
    engine: Engine, answers: Path, own: Path
) -> None:
    import_file(engine, answers)
    assert unpriced_models(engine) == {
        "own-9": 5,
        "lost": 1,
        "claude-opus-5 (no tokens logged)": 1,
    }
    before, prices = _costs(engine), prices_of(own)
    shown = reprice(engine, prices, FIRST, LAST)
    assert str(_costs(engine)) == str(before)
    filled = reprice(engine, prices, FIRST, LAST, fill=True)
    assert filled == shown
    by_model = {line.model: line for line in shown}
    assert by_model["own-9"].fill == pytest.approx(5 * 0.00102)
    assert by_model["claude-opus-5"].was == pytest.approx(3 * 0.00525)
    assert by_model["claude-opus-5"].now == pytest.approx(3 * 0.0105)
    after = _costs(engine)
    assert [after[f"p{n}"] for n in range(5)] == pytest.approx([0.00102] * 5)
    assert [after[f"p{n}"] for n in range(5, 8)] == pytest.approx([0.00525] * 3), "kept for ever"
    assert unpriced_models(engine) == {"lost": 1, "claude-opus-5 (no tokens logged)": 1}
    assert "2 of 10 answers are unpriced" in str(unpriced_remark(engine))
    # The price of its day, once written, stays: a second time nothing is left to fill.
    assert not any(line.fillable for line in reprice(engine, LIST_PRICES, FIRST, LAST, fill=True))
    assert str(_costs(engine)) == str(after)


def test_only_these_days(engine: Engine, answers: Path, own: Path) -> None:
    import_file(engine, answers)
    lines = reprice(engine, prices_of(own), FIRST, FIRST, fill=True)
    assert sum(line.answers for line in lines) == 4
    assert unpriced_models(engine)["own-9"] == 3
    with pytest.raises(ValueError, match="lies before the first"):
        reprice(engine, LIST_PRICES, LAST, FIRST)


def test_it_is_told_by_model(engine: Engine, answers: Path, own: Path) -> None:
    import_file(engine, answers)
    told = "\n".join(reprice_lines(reprice(engine, prices_of(own), FIRST, LAST), filled=False))
    assert "own-9: 5 answers are unpriced; with --fill they cost 0.005100 USD" in told
    assert "lost: 1 answers stay unpriced" in told
    assert "nothing was changed" in told


def test_the_commands(
    tmp_path: Path, answers: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOOP_DATABASE_URL", f"sqlite:///{tmp_path}/loop.db")
    engine = open_store(f"sqlite:///{tmp_path}/loop.db")
    import_file(engine, answers)
    run = CliRunner().invoke
    said = run(app, ["costs", "unpriced"]).output
    assert "5  own-9" in said
    assert "name their prices in LOOP_PRICES_FILE" in said
    monkeypatch.setenv("LOOP_PRICES_FILE", str(own))
    done = run(app, ["costs", "reprice", "2026-09-01", "2026-09-03", "--fill"])
    assert "own-9: 5 answers were unpriced and cost 0.005100 USD" in done.output
    assert "own-9" not in unpriced_models(engine)
