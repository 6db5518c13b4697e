"""Task groups through Dagster and the store: what is embedded, kept, told, renamed and erased."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from sqlalchemy import Engine, delete
from typer.testing import CliRunner

from loop_pipeline.cli.main import app
from loop_pipeline.defs.groups import group_model_stats, task_groups, traffic_looks_as_before
from loop_pipeline.defs.resources import Loop
from loop_pipeline.groups.embedding import model_embedder as encoders
from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import (
    FeedbackRow,
    GroupLineageRow,
    GroupMemberRow,
    GroupModelStatsRow,
    TaskGroupRow,
    TraceRow,
    TraceVectorRow,
)
from loop_pipeline.traces.ingest import import_file

TRAVEL = ("flight", "hotel", "airport", "luggage", "boarding", "passport", "seat", "visa", "train")
MONEY = ("card", "bank", "transfer", "balance", "invoice", "refund", "credit", "loan", "account")
POETRY = ("sonnet", "limerick", "haiku", "stanza", "rhyme", "ballad", "elegy", "verse", "ode")
TOPICS = (TRAVEL, MONEY)


@pytest.fixture
def bring(
    engine: Engine, trace: Callable[..., dict[str, Any]], jsonl: Callable[..., Path]
) -> Callable[..., None]:
    """Imports requests of two topics, numbered from a start."""

    def make(start: int, n: int, topics: tuple[tuple[str, ...], ...] = TOPICS) -> None:
        rng = np.random.default_rng(start)
        lines = []
        for i in range(start, start + n):
            text = " ".join(rng.choice(topics[i % 2], 5))
            messages = [{"role": "user", "content": text}]
            review = {"kind": "review", "value": 1, "actor": "ann", "ts": "2026-09-05T00:00:00Z"}
            feedback = [review] if i % 10 == 0 else []
            ts = f"2026-09-{1 + i // 100:02d}T10:00:00Z"
            lines.append(trace(i, ts=ts, messages=messages, feedback=feedback))
        import_file(engine, jsonl(*lines, name=f"{start}.jsonl"), reviews=True)

    return make


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_newest_requests_of_another_kind_are_told(
    engine: Engine, bring: Callable[..., None]
) -> None:
    bring(0, 700)
    materialize()
    same = traffic_looks_as_before(Loop())
    assert isinstance(same, dg.AssetCheckResult)
    assert same.passed
    bring(700, 500, (TRAVEL, POETRY))
    materialize()
    strange = traffic_looks_as_before(Loop())
    assert isinstance(strange, dg.AssetCheckResult)
    assert not strange.passed
    assert strange.severity == dg.AssetCheckSeverity.WARN
    assert "500 requests look unlike the" in (strange.description or "")


def materialize() -> dict[str, dict[str, Any]]:
    """Both assets; their metadata by name."""
    done = dg.materialize(
        [task_groups, group_model_stats],
        resources={"loop": Loop()},
        selection=["task_groups", "group_model_stats"],
    )
    return {
        event.asset_key.path[-1]: {k: v.value for k, v in event.materialization.metadata.items()}
        for event in done.get_asset_materialization_events()
        if event.asset_key
    }


def loop(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_a_group_s_life_in_the_store(
    engine: Engine, bring: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(0, 400)
    shown = materialize()
    assert count(engine, TraceVectorRow) == count(engine, GroupMemberRow) == 400
    parents = read(engine, TaskGroupRow, status="active", parent_id=None)
    [name] = parents["group_id"]
    assert name in loop("groups", "list")
    assert shown["task_groups"]["dagster/row_count"] == 1
    assert "data:image/png" in shown["group_model_stats"]["plot"]
    assert "no requests yet that two models answered" in shown["group_model_stats"]["best"]
    stats = read(engine, GroupModelStatsRow)
    assert (stats["sample"] == "all logged").all()
    assert stats["quality"].iloc[0] == 1
    assert set(read(engine, GroupLineageRow)["kind"]) == {"born"}

    assert f"{name} is now called orders" in loop("groups", "rename", name[:8], "orders")
    assert "born" in loop("groups", "lineage", name[:8])

    embedded: list[int] = []
    plain = encoders.Embedder.project

    def counted(self: Any, texts: Any) -> Any:
        embedded.append(len(texts))
        return plain(self, texts)

    monkeypatch.setattr(encoders.Embedder, "project", counted)
    bring(1_000, 60)
    materialize()
    assert sum(embedded) == 60
    rows = read(engine, TaskGroupRow).set_index("group_id")
    assert rows["name"][name] == "orders"
    assert count(engine, TraceVectorRow) == 460

    monkeypatch.setenv("LOOP_EMBEDDER", "http://embedder/v1/embeddings#m")
    words = [w for topic in TOPICS for w in topic]
    monkeypatch.setattr(
        encoders,
        "ask_endpoint",
        lambda texts, _url, _key: np.array(
            [[t.split().count(w) for w in words] for t in texts], dtype=np.float32
        ),
    )
    materialize()
    rows = read(engine, TaskGroupRow).set_index("group_id")
    assert (rows["name"][name], rows["status"][name]) == ("orders", "active")
    assert read(engine, TraceVectorRow)["version"].nunique() == 1
    assert len(read(engine, TraceVectorRow)["vector"][0]) == 2 * len(words)
    assert "orders" in loop("groups", "list", "--all")


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_same_rows_again_change_nothing_and_an_erased_trace_takes_its_vector(
    engine: Engine, bring: Callable[..., None]
) -> None:
    bring(0, 300)
    materialize()
    tables = (TaskGroupRow, GroupMemberRow, GroupLineageRow, TraceVectorRow, GroupModelStatsRow)
    before = {table: read(engine, table) for table in tables}
    materialize()
    after = {table: read(engine, table) for table in tables}
    for table in tables:
        if table is TaskGroupRow:  # the streak counts nothing either
            assert after[table].astype(str).equals(before[table].astype(str))
        else:
            assert after[table].equals(before[table]), table
    victim = before[GroupMemberRow]["prompt_id"][0]
    with engine.begin() as connection:
        connection.execute(delete(GroupMemberRow).where(GroupMemberRow.prompt_id == victim))
        connection.execute(delete(FeedbackRow).where(FeedbackRow.prompt_id == victim))
        connection.execute(delete(TraceRow).where(TraceRow.prompt_id == victim))
    assert victim not in set(read(engine, TraceVectorRow)["prompt_id"])
    materialize()
    assert count(engine, GroupMemberRow) == 299
