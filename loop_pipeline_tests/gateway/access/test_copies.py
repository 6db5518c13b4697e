"""What the parent copies from the store is what the workers then know."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from loop_pipeline.gateway.access import copies
from loop_pipeline.gateway.access.copies import Copies
from loop_pipeline.gateway.access.live_files import CONTRACTS, HOLDS, KEYS, POLICY
from loop_pipeline.traces.ingest import import_records
from loop_pipeline.traces.records import Trace

NOW = dt.datetime(2026, 9, 1, 10, tzinfo=dt.UTC)
LABELS = {"kind": "label", "labels": ["delivery", "refund"]}
OLDER = {"kind": "label", "labels": ["delivery"]}


def trace(number: int, **fields: object) -> Trace:
    """One classified request."""
    plain = {
        "prompt_id": f"p{number}",
        "ts": NOW + dt.timedelta(seconds=number),
        "messages": [{"role": "user", "content": f"request {number}"}],
        "output": "delivery",
        "model": "big",
        "app": "shop",
        "task": "classify",
        "contract": LABELS,
    }
    return Trace.model_validate(plain | fields)


def test_a_task_has_the_contract_of_most_of_its_newest_traces(
    engine: Engine, tmp_path: Path
) -> None:
    traces = [trace(i) for i in range(5)] + [trace(i, contract=OLDER) for i in range(5, 8)]
    traces += [trace(8, app="desk", contract=OLDER), trace(9, task="chat", contract=None)]
    import_records(engine, enumerate(traces), source="test")
    assert Copies(tmp_path / "copies", lambda: engine).refresh()
    found = json.loads((tmp_path / "copies" / CONTRACTS).read_text())
    assert found == {"apps": {"shop": {"classify": LABELS}, "desk": {"classify": OLDER}}}


def test_newer_traces_without_a_contract_do_not_hide_those_with_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "NEWEST", 3)
    later = {"ts": "2026-10-01T00:00:00Z", "contract": None}
    traces = [trace(0)] + [trace(i, **later) for i in range(1, 9)]
    import_records(engine, enumerate(traces), source="test")
    assert Copies(tmp_path / "copies", lambda: engine).refresh()
    found = json.loads((tmp_path / "copies" / CONTRACTS).read_text())
    assert found == {"apps": {"shop": {"classify": LABELS}}}


def test_an_empty_store_gives_empty_copies(engine: Engine, tmp_path: Path) -> None:
    assert Copies(tmp_path / "copies", lambda: engine).refresh()
    texts = {path.name: path.read_text() for path in (tmp_path / "copies").iterdir()}
    assert texts == {
        POLICY: "",
        KEYS: '{"required": false, "keys": []}',
        HOLDS: '{"groups": [], "shadow": {}}',
        CONTRACTS: '{"apps": {}}',
    }
