"""The public sets: the real files where they lie, and what is said where they do not."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from loop_pipeline.demo.public_sets import SETS, load_set, write_traffic
from loop_pipeline.traces.importers.jsonl import read_jsonl
from loop_pipeline.traces.records import Feedback
from loop_pipeline.traces.trace_lines import TraceLine

FOLDER = Path(os.environ.get("LOOP_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
WHOLE = gzip.compress(b"text,category")


def here(name: str) -> Path:
    if not (FOLDER / SETS[name].folder).is_dir():
        pytest.skip(f"{SETS[name].folder} is not in {FOLDER}: set LOOP_BENCH_DATA")
    return FOLDER


def test_a_fifth_can_be_held_back_and_nothing_is_lost(tmp_path: Path) -> None:
    here("headlines")
    write_traffic("headlines", FOLDER, tmp_path / "all.jsonl")
    facts = write_traffic(
        "headlines", FOLDER, tmp_path / "a.jsonl", unseen=tmp_path / "unseen.jsonl"
    )
    first, rest = (tmp_path / name for name in ("a.jsonl", "unseen.jsonl"))
    assert first.read_bytes() + rest.read_bytes() == (tmp_path / "all.jsonl").read_bytes()
    assert facts["traces"] == 4_000
    assert len(rest.read_text().splitlines()) == 1_000


@pytest.mark.parametrize(
    ("name", "labels"), [("headlines", 4), ("clinc150", 150), ("banking77", 77)]
)
def test_real_set_has_its_published_size(name: str, labels: int) -> None:
    rows = load_set(name, here(name))
    assert len(rows) == SETS[name].rows
    assert len({label for _, label in rows}) == labels
    assert all(text.strip() and label for text, label in rows)


def test_headlines_are_bare_and_counted() -> None:
    rows = load_set("headlines", here("headlines"))
    assert rows[0] == ("Feb. gold loses $12.50, or 1.1%, to trade at $1,159.90/bbl", "down")
    assert not any(text.startswith("Q: ") or text.endswith("A:") for text, _ in rows)
    counts = {"up": 2092, "down": 1804, "none": 929, "neutral": 175}
    assert Counter(label for _, label in rows) == counts


def test_clinc150_leaves_out_of_scope_rows_out() -> None:
    assert "oos" not in {label for _, label in load_set("clinc150", here("clinc150"))}


def test_traffic_of_a_set_is_what_the_importer_takes(tmp_path: Path) -> None:
    facts = write_traffic("headlines", here("headlines"), tmp_path / "a.jsonl")
    write_traffic("headlines", FOLDER, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    records = [record for _, record in read_jsonl(tmp_path / "a.jsonl")]
    traces = [record.values for record in records if isinstance(record, TraceLine)]
    verdicts = [record for record in records if isinstance(record, Feedback)]
    assert len(records) == 10_000
    assert facts["traces"] == len(traces) == len(verdicts) == 5_000
    assert {(v.kind, v.value, v.actor) for v in verdicts} == {("review", 1, "headlines gold label")}
    gold = dict(load_set("headlines", FOLDER))
    assert all(gold[trace["messages"][1]["content"]] == trace["output"] for trace in traces)
    assert all(trace["output"] in trace["contract"]["labels"] for trace in traces)
    assert len({trace["ts"].date() for trace in traces}) == 7
    assert not any(trace["simulated"] or trace["latency_ms"] for trace in traces)
    assert any("gold labels" in note for note in facts["notes"])
    assert any("estimated" in note for note in facts["notes"])


@pytest.mark.parametrize("name", list(SETS))
def test_missing_set_is_one_line_with_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_traffic(name, tmp_path, tmp_path / "out.jsonl")
    said = str(caught.value)
    assert "\n" not in said
    for part in (str(tmp_path / SETS[name].folder), "LOOP_BENCH_DATA", SETS[name].origin):
        assert part in said
    assert not (tmp_path / "out.jsonl").exists()


def test_changed_file_names_file_and_both_checksums(tmp_path: Path) -> None:
    path = tmp_path / "clinc150" / "data_full.json.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(json.dumps({"train": []}).encode()))
    with pytest.raises(ValueError, match=r"data_full\.json\.gz.* is [0-9a-f]{64}, expected 36923c"):
        load_set("clinc150", tmp_path)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"text,category\n" * 500)[:30], b"<html>", WHOLE[:12] + b"!!!!" * 9],
    # gzip writes the time of day, and two workers have to collect tests of the same names.
    ids=["cut off", "a page", "garbled"],
)
def test_torn_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "banking77" / "train.csv.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.csv\.gz is not a whole gzip file"):
        load_set("banking77", tmp_path)


def test_unknown_set_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="headlines, clinc150, banking77"):
        load_set("clinc", tmp_path)
