"""Which requests are held against which earlier ones: conversations whole, none too large."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from loop_pipeline.groups.embedding import vector_store
from loop_pipeline.groups.embedding.vector_store import TURNS, newest_and_before, time_units
from loop_pipeline.stats.mmd import BLOCK
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import TraceVectorRow
from loop_pipeline.traces.ingest import import_file

START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)


def _rows(talks: list[str | None], users: list[str | None] | None = None) -> pd.DataFrame:
    ts = [START + dt.timedelta(minutes=i) for i in range(len(talks))]
    who = users or [None] * len(talks)
    columns = {"ts": ts, "conversation_id": talks, "user_hash": who}
    return pd.DataFrame(columns).astype({"conversation_id": object, "user_hash": object})


def test_single_requests_are_tied_by_time() -> None:
    units = time_units(_rows([None] * 35))
    assert units.tolist() == (np.arange(35) // BLOCK).tolist()


def test_a_conversation_is_whole_however_it_is_interleaved() -> None:
    talks = [f"c{i % 50}" for i in range(150)]  # three turns each, fifty requests apart
    units = time_units(_rows([*talks]))
    by_talk = pd.Series(units).groupby(talks)
    assert (by_talk.nunique() == 1).all()
    assert np.bincount(units).min() >= 6
    assert (np.diff(by_talk.first()[[f"c{i}" for i in range(50)]]) >= 0).all()


def test_a_giant_conversation_counts_as_its_first_turns() -> None:
    units = time_units(_rows(["giant"] * 500 + [None] * 40))
    assert (units[:500] >= 0).sum() == TURNS
    assert (units[500:] >= 0).all()
    assert time_units(_rows([])).tolist() == []


def test_without_conversations_a_user_and_an_hour_are_one() -> None:
    users = ["ann"] * 30 + ["bob"] * 30
    rows = _rows([None] * 60, [*users])
    units = time_units(rows)  # both within an hour
    assert sorted(set(units[units >= 0])) == [0, 1]
    assert (units >= 0).sum() == 2 * TURNS


@pytest.mark.parametrize("number", [0, 30, 200])
def test_the_newest_and_those_before_never_share_a_conversation(
    engine: Engine,
    trace: Callable[..., Any],
    jsonl: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    monkeypatch.setattr(vector_store, "WINDOW", 50)
    monkeypatch.setattr(vector_store, "REFERENCE", 80)
    moments = [(START + dt.timedelta(minutes=i)).isoformat() for i in range(number)]
    lines = [trace(i, ts=moment, conversation_id=f"c{i // 3}") for i, moment in enumerate(moments)]
    if number:
        import_file(engine, jsonl(*lines))
    # The vector says which request it is.
    place = {f"p{i}": np.array([1, i / 1000], dtype="<f2") for i in range(number)}
    rows = [{"prompt_id": p, "version": "v", "vector": v.tobytes()} for p, v in place.items()]
    with engine.begin() as connection:
        upsert(connection, TraceVectorRow, rows)
    found = newest_and_before(engine)
    assert len(found.window) == len(found.window_units)
    assert len(found.reference) == len(found.reference_units)
    assert not set(found.window_units) & set(found.reference_units)
    if number == 200:
        assert 50 <= len(found.window) <= 62
        assert 80 <= len(found.reference) <= 92
        newest = found.window[:, 1] / found.window[:, 0]
        older = found.reference[:, 1] / found.reference[:, 0]
        assert newest.min() > older.max()
