from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.report.bill import logged_traffic
from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.shadow_answers import shadowed_answers
from loop_pipeline.store.tables import TraceRow
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.ingest import import_file

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def _shadow(of: str, **fields: Any) -> dict[str, Any]:
    return {
        "prompt_id": f"{of}~student",
        "producer": "student",
        "model": "student",
        "route": {"shadow_of": of, "adapter": "student", "shadow": True},
        **fields,
    }


def test_an_engine_that_is_about_one_app_shows_its_traces_only(
    store_url: str, trace: Make, jsonl: Write
):
    lines = [
        trace(
            n,
            app=app,
            feedback=[{"kind": "thumb_up", "ts": "2026-10-01T00:00:00Z"}],
            route={"shadow": True, "arm": "frontier"},
        )
        for n, app in enumerate(["shop", "shop", "desk"])
    ]
    shadows = [trace(n, app=line["app"], **_shadow(f"p{n}")) for n, line in enumerate(lines)]
    everything = open_store(store_url)
    import_file(everything, jsonl(*lines, *shadows))
    shop = open_store(store_url, "shop")
    for engine, n in ((everything, 3), (shop, 2)):
        assert len(read_traces(engine, producer="frontier")) == n
        assert len(read(engine, TraceRow, columns=["prompt_id"])) == 2 * n
        assert len(read_feedback(engine)) == n
        assert len(shadowed_answers(engine)) == n
        assert logged_traffic(engine).requests == n
        engine.dispose()


@pytest.mark.parametrize("ended", ["broken", "cancelled"])
def test_an_answer_that_broke_off_is_kept_and_compared_with_nothing(
    engine: Engine, trace: Make, jsonl: Write, ended: str
):
    lines = [
        trace(1, finish_reason="stop", route={"shadow": True}),
        trace(2, finish_reason=ended, route={"shadow": True}),
    ]
    import_file(engine, jsonl(*lines, *(trace(n, **_shadow(f"p{n}")) for n in (1, 2))))
    assert len(read(engine, TraceRow)) == 4
    assert set(read_traces(engine)["prompt_id"]) == {"p1", "p1~student", "p2~student"}
    assert shadowed_answers(engine)["prompt_id"].tolist() == ["p1"]
