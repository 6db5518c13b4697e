"""What the store knows of requests that a policy can be judged on.

Not here: the estimate (``stats/off_policy.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine, func, or_, select

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.labels.reviews.reviewers import verdicts
from loop_pipeline.routing.evidence.calibration_rows import held_out_answers
from loop_pipeline.routing.evidence.row_units import user_hours
from loop_pipeline.routing.gold_check import gold_outcomes, served
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.store.database import of_app, query, read, records
from loop_pipeline.store.shadow_answers import ADAPTER, FIRST_ANSWER, REQUEST, SHADOW_OF, WHOLE
from loop_pipeline.store.tables import (
    ContractRow,
    GroupMemberRow,
    QualityScoreRow,
    TraceRow,
    TraceUnitRow,
)
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.messages import request_text
from loop_pipeline.training.dataset.near_duplicates import tied

COLUMNS = (
    "prompt_id",
    "cluster",
    "group_id",
    "length",
    "replayed",
    "p_model",
    "p_frontier",
    "serves",
    "agrees",
    "frontier_answered",
    "frontier_usd",
    "frontier_quality",
    "model_quality",
)


def logged_requests(
    engine: Engine, bundle: PolicyBundle, others: Sequence[Contender] = ()
) -> pd.DataFrame:
    """Requests that a policy without canary can be judged on, one row each.

    Replayed: gold requests that the model a group's requests go to first has answered, so that
    everything about them is known. Live: requests routed since the student first answered one, in
    groups that go to no other model; ``traces.route`` of the answer that went out holds ``arm``,
    ``adapter`` and ``propensity`` of the decision, and ``shadow_of`` of every other answer names
    the request. A certificate may rest on live rows too; on gold rows nothing does.

    Returns:
        prompt_id; cluster (what the request belongs together with: its repeats, its conversation
        or what one user asked in an hour, the unit it got with its split); group_id; length of the
        prompt; replayed; p_model and p_frontier, the chance that the answer is in the log; serves
        (whether the policy serves the cheaper model's answer: 1, 0, NaN if that is not known);
        agrees; frontier_answered; frontier_usd (NaN also where its answer is unpriced);
        frontier_quality and model_quality (a person's verdict, else the quality score). What is
        not known is NaN; a replayed answer that differs from the frontier's counts as bad.
    """
    quality = _quality(engine)
    gold = _held_out(engine, bundle, others, quality)
    live = _live(engine, bundle, quality)
    elsewhere = [g.group_id for g in bundle.groups if g.model is not None]
    live = live[~live["group_id"].isin(elsewhere)]
    rows = pd.concat([gold, live], ignore_index=True) if len(live) else gold
    rows = rows.assign(cluster=_clusters(engine, rows))
    twins = ~rows["replayed"].astype(bool) & rows["cluster"].isin(rows["cluster"][: len(gold)])
    return rows[~twins].reset_index(drop=True)


def _clusters(engine: Engine, rows: pd.DataFrame) -> NDArray[np.int64]:
    """Number what belongs together; ``cluster`` is the dedup key so far."""
    ids = pd.Index(rows["prompt_id"])
    columns = ["prompt_id", "ts", "user_hash", "conversation_id"]
    talk = read(engine, TraceRow, columns=columns).set_index("prompt_id").reindex(ids)
    units = read(engine, TraceUnitRow).set_index("prompt_id")["unit"].reindex(ids)
    return tied([rows["cluster"], talk["conversation_id"], user_hours(talk), units])


def _quality(engine: Engine) -> dict[str, float]:
    """P(good) of every answer of which something is known, by prompt id; people's word wins."""
    scored = read(engine, QualityScoreRow, columns=["prompt_id", "score"]).dropna()
    known = dict(zip(scored["prompt_id"], scored["score"].astype(float), strict=True))
    said = verdicts(read_feedback(engine, kind="review"))
    return known | {str(name): float(good) for name, good in said["good"].dropna().items()}


def _held_out(
    engine: Engine,
    bundle: PolicyBundle,
    others: Sequence[Contender],
    quality: Mapping[str, float],
) -> pd.DataFrame:
    answers = held_out_answers(engine, bundle.student["checkpoint_id"])
    rows = gold_outcomes(bundle, answers, others)
    asked = read_traces(engine, split="gold").set_index("prompt_id")
    known = asked.reindex(rows["prompt_id"])
    good = rows["prompt_id"].map(quality).astype(float)
    agrees = rows["agrees"].astype(float)
    return pd.DataFrame(
        {
            "prompt_id": rows["prompt_id"],
            "cluster": known["dedup_key"].to_numpy(),
            "group_id": rows["group_id"],
            "length": [float(len(request_text(m))) for m in known["messages"]],
            "replayed": True,
            "p_model": 1.0,
            "p_frontier": 1.0,
            "serves": rows["kept"].astype(float),
            "agrees": agrees,
            "frontier_answered": True,
            "frontier_usd": known["cost_usd"].to_numpy(float),
            "frontier_quality": good,
            "model_quality": good.where(good.isna() | (agrees == 1), 0.0),
        },
        columns=pd.Index(COLUMNS),
    )


def _live(engine: Engine, bundle: PolicyBundle, quality: Mapping[str, float]) -> pd.DataFrame:
    adapter = bundle.student.get("adapter", "")
    requests: dict[str, dict[str, Any]] = {}
    for row in _routed_answers(engine, adapter):
        own = requests.setdefault(row["request"], {})
        if row["prompt_id"] == row["request"]:
            own["main"] = row
        if row["producer"] == "frontier":
            own["frontier"] = row
        elif row["adapter"] == adapter:
            own["student"] = row
    found = [_request(own, quality, adapter) for own in requests.values()]
    # Object columns, or a missing finish reason would come back as a number.
    frame = pd.DataFrame([row for row in found if row is not None], dtype=object)
    if frame.empty:
        return pd.DataFrame(columns=pd.Index(COLUMNS))
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    groups = members.set_index("prompt_id")["group_id"]
    frame["group_id"] = frame["group_id"].fillna(frame["prompt_id"].map(groups))
    frame["group_id"] = frame["group_id"].fillna(UNASSIGNED)
    known = frame["output"].notna()
    frame["serves"] = np.nan
    if known.any():
        frame.loc[known, "serves"] = served(bundle, frame[known]).astype(float)
    return frame[list(COLUMNS)].infer_objects()


def _routed_answers(engine: Engine, adapter: str) -> list[dict[str, Any]]:
    """Answers to the requests routed since this student first answered one."""
    route = TraceRow.route
    with engine.connect() as connection:
        first = connection.scalar(
            select(func.min(TraceRow.day)).where(adapter == ADAPTER, TraceRow.producer == "student")
        )
    if first is None:
        return []
    statement = (
        select(
            TraceRow.prompt_id,
            REQUEST.label("request"),
            ADAPTER.label("adapter"),
            route["arm"].as_string().label("arm"),
            route["group_id"].as_string().label("group_id"),
            route["propensity"].as_float().label("propensity"),
            TraceRow.dedup_key,
            TraceRow.producer,
            TraceRow.messages,
            TraceRow.output,
            TraceRow.logprobs,
            TraceRow.tokens_out,
            TraceRow.finish_reason,
            TraceRow.cost_usd,
            ContractRow.body.label("contract"),
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(TraceRow.day >= first, WHOLE, FIRST_ANSWER, of_app(engine))
        .where(or_(route["propensity"].as_float().is_not(None), SHADOW_OF.is_not(None)))
        .order_by(TraceRow.prompt_id)
    )
    return [{str(k): v for k, v in row.items()} for row in records(query(engine, statement))]


def _request(
    own: Mapping[str, dict[str, Any]], quality: Mapping[str, float], adapter: str
) -> dict[str, Any] | None:
    """One live request as a row; None if what went out or its propensity was not logged."""
    main, student, frontier = (own.get(name) for name in ("main", "student", "frontier"))
    if main is None or not main["propensity"] or not 0 < main["propensity"] <= 1:
        return None
    asked = main["arm"] == "student" and main["adapter"] in (adapter, None)
    went_out = main["producer"] == "student" and main["adapter"] == adapter
    text = request_text(main["messages"])
    same = np.nan
    if student is not None and frontier is not None:
        same = float(agrees(student["output"], frontier["output"], main["contract"]))
    row = {
        "prompt_id": main["prompt_id"],
        "cluster": main["dedup_key"],
        "group_id": main["group_id"],
        "length": float(len(text)),
        "replayed": False,
        # One coin decides whether the models that were not asked answer as well.
        "p_model": 1.0 if asked or went_out else main["propensity"],
        "p_frontier": 1.0 if main["producer"] == "frontier" else main["propensity"],
        "agrees": same,
        "frontier_answered": frontier is not None,
        "frontier_usd": _usd(frontier),
        "frontier_quality": _known(quality, frontier),
        "model_quality": _known(quality, student),
        "output": None,
    }
    if student is None:
        return row
    logged = student["logprobs"] or {}
    mean, tokens = logged.get("mean", np.nan), student["tokens_out"]
    return row | {
        "output": student["output"],
        "finish_reason": student["finish_reason"],
        "contract": main["contract"],
        "request_text": text,
        "tokens_out": float(tokens),
        "logprob_sum": logged.get("sum", mean * tokens),
        "logprob_mean": mean,
        **{f"logprob_{name}": logged.get(name, np.nan) for name in ("min", "p10")},
    }


def _usd(frontier: Mapping[str, Any] | None) -> float:
    """NaN: it did not answer, or nobody knows what that cost."""
    usd = None if frontier is None else frontier["cost_usd"]
    return np.nan if usd is None else float(usd)


def _known(quality: Mapping[str, float], answer: Mapping[str, Any] | None) -> float:
    return np.nan if answer is None else quality.get(str(answer["prompt_id"]), np.nan)
