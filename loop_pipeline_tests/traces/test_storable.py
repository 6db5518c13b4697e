"""One line costs one line: whatever the database or a reader cannot take is quarantined."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DataError

from loop_pipeline.store.database import read
from loop_pipeline.store.tables import QuarantineRow, TraceRow
from loop_pipeline.traces import trace_inserts
from loop_pipeline.traces.importers import batches
from loop_pipeline.traces.importers import jsonl as reader
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.storable import MOST_NESTED

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def _nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def _with(line: dict[str, Any], name: str, raw: str) -> str:
    """The line with a field of exactly this JSON."""
    return json.dumps(line | {name: "@"}).replace('"@"', raw)


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("output", r'"cut \ud83d"', "output: holds half a character"),
        ("prompt_id", r'"p\udfff"', "prompt_id: holds half a character"),
        ("output", r'"a\u0000b"', "output: holds a NUL"),
        ("route", r'{"a\u0000b": 1}', "route: holds a NUL"),
        ("tokens_in", "2147483648", "tokens_in: Input should be less than or equal"),
        ("tokens_in", "9" * 5000, "a number that cannot be read"),
        ("tokens_in", "1" + "0" * 30, "tokens_in"),
        ("cost_usd", "Infinity", "cost_usd: inf is no number"),
        ("cost_usd", "1e400", "cost_usd: inf is no number"),
        ("cost_usd", '"Infinity"', "cost_usd: Input should be a finite number"),
        ("latency_ms", "NaN", "latency_ms: nan is no number"),
        ("logprobs", '{"min": -Infinity}', "logprobs.min: -inf is no number"),
        ("route", '{"score": NaN}', "route.score: nan is no number"),
        ("route", _nested(MOST_NESTED + 1), "route: nested deeper than"),
        ("route", _nested(100_000), "nested too deep"),
        ("ts", '"0001-01-01T00:00:00+14:00"', "ts: no time was logged"),
        ("ts", '"9999-12-31T23:59:59-14:00"', "ts: the year 9999 is not between"),
        ("prompt_id", json.dumps("ü" * 1001), "prompt_id: longer than 2000 bytes"),
        ("tokens_cached", "-7", "tokens_cached: Input"),
    ],
)
def test_a_line_that_cannot_be_stored_costs_itself_only(
    engine: Engine, trace: Make, jsonl: Write, name: str, raw: str, reason: str
):
    bad = _with(trace(2), name, raw)
    done = import_file(engine, jsonl(trace(1), bad, trace(3)))
    assert (done.traces, done.quarantined) == (2, 1)
    row = read(engine, QuarantineRow).iloc[0]
    assert reason in row["reason"]
    assert (row["source"], row["line"], row["raw"]) == ("traces.jsonl", 2, bad)
    assert import_file(engine, jsonl(bad)).traces == 0


def test_what_fits_is_stored_as_it_came(engine: Engine, trace: Make, jsonl: Write):
    route = json.loads(_nested(MOST_NESTED - 1)) | {"big": 10**30, "text": "a\tb\\n\n\r\\."}
    line = trace(
        1,
        prompt_id="ü" * 1000,
        output="tab\t new\nline \r back\\slash \\N \\.",
        route=route,
        tokens_in=2**31 - 1,
        latency_ms=1e-300,
        tags={"x": None},
        messages=[{"role": "user", "content": "a", "tool_calls": 7, "n": 10**30}],
    )
    assert import_file(engine, jsonl(line)).traces == 1
    row = read(engine, TraceRow).iloc[0]
    for name in ("prompt_id", "output", "route", "tokens_in", "latency_ms", "tags", "messages"):
        assert row[name] == line[name]
    assert import_file(engine, jsonl(line)).traces_known == 1


def test_a_byte_order_mark_is_no_fault(engine: Engine, trace: Make, tmp_path: Path):
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(trace(1)).encode() + b"\r\n")
    assert import_file(engine, path).traces == 1


def test_a_line_without_end_costs_itself_only(
    engine: Engine, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reader, "MOST_LINE_BYTES", 1000)
    done = import_file(engine, jsonl(trace(1), trace(2, context="x" * 5000), trace(3)))
    assert (done.traces, done.quarantined) == (2, 1)
    row = read(engine, QuarantineRow).iloc[0]
    assert row["line"] == 2
    assert len(row["raw"]) <= 2000


def test_what_only_the_database_refuses_is_found_by_halving(
    engine: Engine, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
):
    insert = trace_inserts.insert_traces

    def refuses(connection: Any, rows: list[dict[str, Any]]) -> list[str]:
        if any(row["prompt_id"] == "p13" for row in rows):
            raise DataError("insert", None, Exception("nobody thought of this"))
        return insert(connection, rows)

    monkeypatch.setattr(trace_inserts, "insert_traces", refuses)
    done = import_file(engine, jsonl(*(trace(n) for n in range(40))))
    assert (done.traces, done.quarantined) == (39, 1)
    row = read(engine, QuarantineRow).iloc[0]
    assert "the database refuses it: nobody thought of this" in row["reason"]
    assert json.loads(row["raw"])["prompt_id"] == "p13"


def test_batches_end_by_size_too(trace: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "BATCH_BYTES", 2000)
    records = [(n, r) for n in range(9) for r in reader.parse_line(json.dumps(trace(n)).encode())]
    sizes = [len(batch) for batch in batches.in_batches(records)]
    assert sum(sizes) == 9
    assert max(sizes) < 9
