"""What a benchmark writes down, and the page that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import dedup, page, record


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (record, page):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path


def written(monkeypatch: pytest.MonkeyPatch, *words: str) -> dict:
    """A result of two rows, of a benchmark that was started with these words."""
    monkeypatch.setattr("sys.argv", ["benchmark", *words])
    rows = pd.DataFrame(
        {
            "what": ["student", "coin"],
            "kind": ["ours", "control"],
            "kept": [np.float64(2 / 3), np.nan],
            "kept low": [0.5, np.nan],
            "kept high": [0.75, np.nan],
            "n": np.array([1200, 7]),
            "time": [0.04321, 12.0],
        }
    )
    found = record.table("Of all", rows, {"kept": "share", "time": "ms", "elsewhere": "s"})
    doc = "Is it\ntrue?\n\n    python -m benchmarks.leak\n\nHow it is\nmeasured.\n"
    path = record.record("benchmarks/leak.py", doc, [found], record.Start(), rivals=["Coin 1.0"])
    return json.loads(path.read_text())


def test_numbers_stay_numbers_and_what_is_not_known_is_null(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [stored] = written(monkeypatch)["tables"]
    assert stored["rows"][0]["kept"] == 0.666667
    assert stored["rows"][1] == {
        "what": "coin",
        "kind": "control",
        "n": 7,
        "time": 12.0,
        "kept": None,
        "kept low": None,
        "kept high": None,
    }
    assert stored["units"] == {"kept": "share", "time": "ms"}


def test_a_result_says_how_where_and_when_and_names_no_path(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = written(monkeypatch, "--encoder", "/models/mine", "200")
    assert found["command"] == "OMP_NUM_THREADS=1 python -m benchmarks.leak --encoder PATH 200"
    assert (found["question"], found["method"]) == ("Is it true?", "How it is measured.")
    assert found["machine"]["cores"] >= 1
    assert len(found["machine"]["load_at_start"]) == 3
    assert found["packages"]["numpy"] == np.__version__
    assert found["rivals_in_this_run"] == ["Coin 1.0"]


def test_the_page_shows_shares_in_per_cent_with_their_interval_and_units_in_the_head(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(monkeypatch)
    shown = page.page()
    assert "| what | kind | kept | n | time (ms) |" in shown
    assert "| student | ours | 66.7% [50.0%, 75.0%] | 1,200 | 0.043 |" in shown
    assert "| coin | control | – | 7 | 12 |" in shown
    assert "Rivals in the same run: Coin 1.0." in shown


def test_a_benchmark_without_a_topic_is_not_forgotten(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(monkeypatch)
    (results / "leak.json").rename(results / "unheard_of.json")
    with pytest.raises(ValueError, match="no topic for unheard_of"):
        page.page()


def test_a_small_run_writes_its_figures(results: Path) -> None:
    dedup.main(3000)
    [found] = json.loads((results / "dedup.json").read_text())["tables"]
    [figures] = found["rows"]
    assert figures["requests"] == 3000
    assert figures["of these, found"] == 1.0, "every variant that is alike enough"
    assert figures["of these, of one request"] == 1.0, "nothing else lies with it"
