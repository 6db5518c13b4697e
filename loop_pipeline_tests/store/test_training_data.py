"""Pairs that change their label, days that late feedback touches, and a prompt id in all tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text

from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.pairs import label_pairs
from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline.store import database as queries
from loop_pipeline.store.database import follow, open_store, read, records, replace_days
from loop_pipeline.store.tables import (
    FeedbackRow,
    LabeledPairRow,
    QualityScoreRow,
    ReviewItemRow,
    SupersededPairRow,
    TraceRow,
)
from loop_pipeline.store.traces import days_touched, read_feedback, read_traces
from loop_pipeline.store.training_data import replace_pairs
from loop_pipeline.traces.ingest import import_file

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
DAYS = ["2026-09-01", "2026-09-02", "2026-09-03"]
EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def _said(prompt_id: str, kind: str, minute: int, **more: Any) -> dict[str, Any]:
    moment = dt.datetime(2026, 9, 5, tzinfo=dt.UTC) + dt.timedelta(minutes=minute)
    return {"prompt_id": prompt_id, "kind": kind, "ts": moment.isoformat(), **more}


def _label(engine: Engine, days: list[str]) -> int:
    traces, feedback = read_traces(engine, days=days), read_feedback(engine, days=days)
    scores = traces[["prompt_id", "day"]].assign(
        score=0.97, threshold=0.9, origin="model", version="v"
    )
    pairs = label_pairs(
        traces,
        feedback,
        flag_hallucinations(traces, tiers=Tiers()),
        scores,
        verdicts(feedback),
        tiers=Tiers(),
    )
    because = [{"start": 1.0, "accepted": 2.0}] * len(scores)
    scores["because"] = pd.Series(because, index=scores.index, dtype=object)
    with engine.begin() as connection:
        replace_days(connection, QualityScoreRow, days, records(scores))
        return replace_pairs(connection, days, records(pairs))


def _kinds(engine: Engine, prompt_id: str) -> set[str]:
    return set(read(engine, LabeledPairRow, prompt_id=prompt_id)["kind"])


def test_a_pair_that_changes_its_label_is_kept_with_what_replaced_it(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    import_file(engine, jsonl(*(trace(i) for i in range(6)), _said("p0", "accepted", 0)))
    assert _label(engine, DAYS) == 0
    assert _kinds(engine, "p0") == {"sft", "kto_pos"}
    import_file(engine, jsonl(_said("p0", "rejected", 9), name="late.jsonl"))
    assert _label(engine, DAYS) == 2
    assert _kinds(engine, "p0") == {"kto_neg"}
    old = read(engine, SupersededPairRow)
    assert set(old["kind"]) == {"sft", "kto_pos"}
    assert set(old["instead"]) == {"kto_neg: the user rejected it"}
    assert _label(engine, DAYS) == 0  # nothing new: nothing is superseded twice
    import_file(engine, jsonl(_said("p0", "regenerated", 12), name="later.jsonl"))
    assert _label(engine, DAYS) == 1
    gone = read(engine, SupersededPairRow, kind="kto_neg")
    assert gone["instead"].tolist() == ["nothing is learned from it"]
    import_file(engine, jsonl(_said("p0", "accepted", 15), name="last.jsonl"))
    _label(engine, DAYS)
    assert _kinds(engine, "p0") == {"sft", "kto_pos"}  # back, and its past is still there
    assert len(read(engine, SupersededPairRow, prompt_id="p0")) == 3


def test_late_feedback_touches_its_own_labelled_days_only(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    import_file(engine, jsonl(*(trace(i) for i in range(6))))
    _label(engine, DAYS[:2])
    assert days_touched(engine, EPOCH) == {}
    feedback = [_said("p1", "rejected", 0), _said("p2", "rejected", 1), _said("p4", "accepted", 2)]
    import_file(engine, jsonl(*feedback, name="late.jsonl"))
    touched = days_touched(engine, EPOCH)
    assert set(touched) == {"2026-09-02"}  # p1 and p4; p2's day waits for its first labelling
    assert days_touched(engine, touched["2026-09-02"]) == {}
    before = read(engine, LabeledPairRow, day=DAYS[0])
    _label(engine, list(touched))
    pd.testing.assert_frame_equal(before, read(engine, LabeledPairRow, day=DAYS[0]))


def test_one_prompt_id_is_followed_through_the_tables(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    import_file(engine, jsonl(trace(0), trace(1), _said("p0", "accepted", 0)))
    _label(engine, DAYS)
    rows = follow(engine, "p0")
    assert {"traces", "feedback", "quality_scores", "labeled_pairs"} <= set(rows)
    assert all(row["prompt_id"] == "p0" for found in rows.values() for row in found)
    assert follow(engine, "nobody") == {}


def test_an_older_store_is_brought_up_to_date_with_its_rows(empty_database: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(queries.__file__).parent / "migrations"))
    old = create_engine(empty_database)
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.execute(
            text(
                "insert into traces values ('p', '2026-09-01 10:00:00', '2026-09-01', 'a', null,"
                " null, null, 't', '[]', null, null, 'o', 'frontier', 'm', 1, 0, 1, 0, null, null,"
                " null, null, 'train', 'k', false, 's')"
            )
        )
        connection.execute(
            text(
                "insert into feedback values ('f', 'p', 'accepted', null, null, null,"
                " '2026-09-01 10:05:00', 's')"
            )
        )
        connection.execute(
            text("insert into review_items values ('p', 0.05, 'open', '2026-09-01 12:00:00')")
        )
    old.dispose()
    new = open_store(empty_database)
    feedback, item = read(new, FeedbackRow).iloc[0], read(new, ReviewItemRow).iloc[0]
    assert feedback["received_at"] == feedback["ts"]
    assert (item["p_review"], item["status"]) == (0.05, "open")
    with new.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    new.dispose()
    again = open_store(empty_database)
    assert [len(read(again, kind)) for kind in (TraceRow, FeedbackRow, ReviewItemRow)] == [1, 1, 1]
    again.dispose()
