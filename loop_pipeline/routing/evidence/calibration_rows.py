"""From the store to the rows a policy may rest on: held-out, live, and of other models.

Not here: what is made of them (``policy_fit.py``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.answers.agreement import agreement_of
from loop_pipeline.confidence.answer_score import unservable
from loop_pipeline.confidence.request_score import fit_request_score
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.routing.evidence.row_units import with_units
from loop_pipeline.routing.offers import Contender
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import adapter_name, checkpoint_rows
from loop_pipeline.store.database import read
from loop_pipeline.store.shadow_answers import shadowed_answers
from loop_pipeline.store.tables import (
    CheckpointRow,
    GroupMemberRow,
    StudentAnswerRow,
    TraceRow,
    TraceUnitRow,
)
from loop_pipeline.store.traces import read_traces
from loop_pipeline.traces.messages import request_text, source_text

FITTED_ON = ("train", "validation")


def versions_of(settings: LoopSettings) -> dict[str, str]:
    """What else than models and groups a certificate speaks about, as it runs here."""
    return {
        "detector": tiers_of(settings).version,
        "decoding": f"greedy, {settings.max_answer_tokens} tokens, logprobs 1, plain forms",
    }


def held_out_answers(engine: Engine, checkpoint_id: str, app: str = "") -> pd.DataFrame:
    """A student's answers to held-out requests, replayed and live, one row a distinct request.

    Args:
        engine: the store.
        checkpoint_id: of the student.
        app: the only one whose requests count; empty: all.

    Returns:
        ``student_answers`` columns, and group_id, dedup_key, ts, task, contract, request_text,
        source, cost_usd (the frontier's); conversation_id, unit (the name of what a row belongs
        to, see ``row_units``) and times (how often the request was asked).
    """
    answers = read(engine, StudentAnswerRow, checkpoint_id=checkpoint_id)
    traces = read_traces(engine, split=["validation", "calibration", "gold"])
    traces = traces.assign(
        request_text=traces["messages"].map(request_text),
        source=traces["messages"].map(source_text),
    )
    columns = ["prompt_id", "dedup_key", "ts", "task", "contract", "request_text", "source"]
    replayed = answers.merge(traces[[*columns, "messages", "cost_usd"]], on="prompt_id")
    asked = _askings(traces).value_counts()
    replayed = replayed.assign(times=replayed["dedup_key"].map(asked).fillna(1))
    live = live_answers(engine, checkpoint_id)
    frame = pd.concat([replayed, live], ignore_index=True) if len(live) else replayed
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    frame = frame.merge(members, on="prompt_id").sort_values("prompt_id", kind="stable")
    if app:
        own = read(engine, TraceRow, columns=["prompt_id"], app=app)
        frame = frame[frame["prompt_id"].isin(own["prompt_id"])]
    # A request that comes again is no new evidence, but it is asked more often.
    frame = _on_one_side(engine, frame).drop_duplicates("dedup_key").reset_index(drop=True)
    return with_units(engine, frame, frame["messages"]).drop(columns="messages")


def _askings(traces: pd.DataFrame) -> pd.Series:
    """The request of every time it was asked; a second answer to it is no second asking."""
    second = [isinstance(route, dict) and bool(route.get("again")) for route in traces["route"]]
    return traces.loc[(traces["producer"] == "frontier") & ~pd.Series(second), "dedup_key"]


def _on_one_side(engine: Engine, frame: pd.DataFrame) -> pd.DataFrame:
    """Without requests that are gold in one row and not in another.

    A row that ties two units together is on the more protected side, though its twin may be on the
    other. Such a request is neither: it was evidence for a certificate and cannot judge it. Rows
    never leave gold, so what is on one side now is never on the other later.
    """
    columns = ["prompt_id", "dedup_key", "split"]
    rows = read(engine, TraceRow, columns=columns, producer="frontier")
    settled = rows["prompt_id"].isin(read(engine, TraceUnitRow, columns=["prompt_id"])["prompt_id"])
    rows = rows[settled | ~rows["dedup_key"].isin(rows.loc[settled, "dedup_key"])]
    gold = (rows["split"] == "gold").groupby(rows["dedup_key"])
    is_gold = frame["split"] == "gold"
    every, some = (frame["dedup_key"].map(found) for found in (gold.all(), gold.any()))
    return frame[is_gold & every.eq(True) | ~is_gold & ~some.eq(True)]


def live_answers(engine: Engine, checkpoint_id: str) -> pd.DataFrame:
    """Shadowed requests that this student answered live, as rows of the calibration split.

    Left out is whatever was asked before the student was trained: it may have learned it. Gold
    stays gold: it is for judging what was certified.

    Returns:
        As ``held_out_answers``, without units and groups, a row each time that a request was drawn;
        times: how often it was.
    """
    rows = shadowed_answers(engine)
    known = checkpoint_rows(engine, [checkpoint_id])
    rows = rows[rows["adapter"] == adapter_name(checkpoint_id)] if known else rows.head(0)
    if rows.empty:
        return rows
    born = known[0]["created_at"]
    seen = read(engine, TraceRow, columns=["dedup_key", "ts"])
    old = set(seen.loc[pd.to_datetime(seen["ts"], utc=True) < born, "dedup_key"])
    rows = rows[~rows["dedup_key"].isin(old) & (rows["split"] != "gold")]
    logprobs = [p if isinstance(p, dict) else {} for p in rows["logprobs"]]
    # Without log-probabilities the score is NaN: the router would have escalated, so it counts so.
    features = {
        f"logprob_{name}": pd.Series([p.get(name) for p in logprobs], rows.index, dtype=float)
        for name in ("sum", "min", "p10", "mean")
    }
    return rows.assign(
        **features,
        checkpoint_id=checkpoint_id,
        split="calibration",
        agrees=agreement_of(rows["output"], rows["frontier_output"], rows["contract"]),
        request_text=rows["messages"].map(request_text),
        source=rows["messages"].map(source_text),
        cost_usd=rows["frontier_usd"],
        times=rows.groupby("dedup_key")["dedup_key"].transform("size"),
    ).drop(columns=["adapter", "logprobs", "frontier_usd"])


def other_models(
    engine: Engine, embedder: TextEmbedder, *, besides: Sequence[str] = ()
) -> list[Contender]:
    """Cheaper models that are no students, judged by the request alone, before they are called.

    Their answers to requests of the frontier are traces with ``route.adapter`` (the name it is
    called by), ``route.shadow_of`` and ``route.shadow``: from the gateway, or imported.

    Args:
        engine: the store.
        embedder: of the task groups.
        besides: names that are left out.
    """
    students = read(engine, CheckpointRow, columns=["checkpoint_id"])["checkpoint_id"]
    rows = shadowed_answers(engine)
    rows = rows[~rows["adapter"].isin([*map(adapter_name, students), *besides])]
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    rows = rows.merge(members, on="prompt_id").sort_values(["adapter", "prompt_id"], kind="stable")
    if rows.empty:
        return []
    key = ["adapter", "dedup_key"]
    rows = rows.assign(times=rows.groupby(key)["dedup_key"].transform("size")).drop_duplicates(key)
    rows = (
        with_units(engine, rows, rows["messages"])
        .assign(
            agrees=agreement_of(rows["output"], rows["frontier_output"], rows["contract"]),
            request_text=rows["messages"].map(request_text),
            source=rows["messages"].map(source_text),
        )
        .reset_index(drop=True)
    )
    vectors = embedder.transform(rows["request_text"].tolist())
    found = []
    for name, own in rows.groupby("adapter", sort=True):
        fit = own[own["split"].isin(FITTED_ON)]
        score = fit_request_score(
            fit["request_text"].tolist(), vectors[fit.index], fit["agrees"].to_numpy(dtype=bool)
        )
        columns = ["output", "finish_reason", "contract", "source"]
        held = [
            unservable(o, f, c if isinstance(c, dict) else None, t) is not None
            for o, f, c, t in own[columns].itertuples(index=False)
        ]
        value = score.values(own["request_text"].tolist(), vectors[own.index])
        rows_of = own[["prompt_id", "split", "group_id", "agrees", "unit", "times"]]
        found.append(
            Contender(
                name=str(name),
                version=str(name),
                usd_per_request=_usd_of(own["cost_usd"]),
                score=score,
                rows=rows_of.assign(score=np.where(held, np.nan, value)).reset_index(drop=True),
            )
        )
    return found


def recent_rows(
    answers: pd.DataFrame,
    days: int,
    since: Mapping[str, dt.datetime],
    now: dt.datetime | None = None,
) -> pd.DataFrame:
    """Without calibration rows that prove nothing of today: old ones, and those of before a hold.

    Args:
        answers: with split, group_id and ts (UTC). What a score is fitted on may be old.
        days: before the newest calibration row. Counted from there, as a log may end long ago.
        since: when groups were held that still are, by id.
        now: if it is not now. Rows of a clock that was ahead count as of this moment, or they would
            make all others old and a certificate last for ever.
    """
    moment = pd.Timestamp(now or dt.datetime.now(dt.UTC))
    ts = pd.to_datetime(answers["ts"], utc=True)
    ts = ts.where(ts <= moment, moment)
    proving = answers["split"] == "calibration"
    if not proving.any():
        return answers
    held = pd.to_datetime(answers["group_id"].map(dict(since)), utc=True)
    old = (ts < ts[proving].max() - pd.Timedelta(days=days)) | (ts <= held)
    return answers.assign(ts=ts)[~(proving & old)]


def _usd_of(costs: pd.Series) -> float | None:
    """What a request costs on average; None: nobody knows, or no price was found, which is 0."""
    mean = float(costs.astype(float).mean())
    return mean if mean > 0 else None
