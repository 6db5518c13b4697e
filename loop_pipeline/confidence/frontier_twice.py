"""Requests that the frontier answered twice, as the store has them, and the ceilings they give.

Not here: asking twice (``gateway/cascade.py``), and what a ceiling means (``ceiling.py``).

Two kinds, never mixed: requests of which a coin wanted a second answer (or an import brings one:
``route.shadow_of`` names the request), which are a sample of the traffic; and requests that came
more than once, which are not. Of the second kind only groups without one of the first make use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Engine, func, select

from loop_pipeline.answers.agreement import agreement_of
from loop_pipeline.confidence.ceiling import Ceiling, ceiling_of
from loop_pipeline.store.database import CHUNK, of_app, query, read
from loop_pipeline.store.shadow_answers import FIRST_ANSWER, REQUEST, SHADOW_OF, WHOLE
from loop_pipeline.store.tables import ContractRow, GroupMemberRow, TraceRow, TraceUnitRow

# Key of the ceiling of all requests, among those by group id.
ALL = "all"


@dataclass(frozen=True)
class FrontierTwice:
    """How often the frontier agrees with itself.

    ``ceilings`` by group id, and of ``ALL``; ``tasks`` by task. ``same`` says of each frontier
    answer (by its prompt id) whether another answer of the frontier to the same request, drawn by
    the coin, agrees; ``units`` which unit it belongs to.
    """

    ceilings: dict[str, Ceiling] = field(default_factory=dict)
    tasks: dict[str, Ceiling] = field(default_factory=dict)
    same: dict[str, bool] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> Ceiling | None:
        """The ceiling of all requests."""
        return self.ceilings.get(ALL)


def frontier_twice(engine: Engine, model: str = "") -> FrontierTwice:
    """Read the pairs of answers and count them.

    Args:
        engine: the store.
        model: of the frontier: both answers have to be its; empty: of any model, but the same.
    """
    drawn, repeats = _asked_twice(engine, model), _repeated(engine, model)
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    groups = dict(zip(members["prompt_id"], members["group_id"], strict=True))
    ceilings: dict[str, Ceiling] = {}
    tasks: dict[str, Ceiling] = {}
    # The sample comes last, so that it stands where there is one.
    for pairs, by_coin in ((repeats, False), (drawn, True)):
        known = (pairs[name].map(groups).astype(object) for name in ("prompt_id", "other_id"))
        own = next(known).fillna(next(known)).fillna(pairs["group_id"])
        pairs = pairs.assign(group_id=own)
        ceilings |= _ceilings([(ALL, pairs), *pairs.groupby("group_id", sort=True)], by_coin)
        tasks |= _ceilings(list(pairs.groupby("task", sort=True)), by_coin)
    same, units = (
        dict(zip([*drawn["prompt_id"], *drawn["other_id"]], [*drawn[name]] * 2, strict=True))
        for name in ("same", "unit")
    )
    return FrontierTwice(ceilings, tasks, same, units)


def _ceilings(parts: list[tuple[Any, pd.DataFrame]], by_coin: bool) -> dict[str, Ceiling]:
    found = {
        str(name): ceiling_of(rows["same"].tolist(), rows["unit"].tolist(), drawn=by_coin)
        for name, rows in parts
    }
    return {name: ceiling for name, ceiling in found.items() if ceiling is not None}


def _asked_twice(engine: Engine, model: str) -> pd.DataFrame:
    """Two answers to one request, the one that others are compared with first."""
    beside = query(engine, _answers(engine, model, SHADOW_OF.is_not(None)))
    requests = sorted(set(beside["key"]))
    parts = [beside]
    for at in range(0, len(requests), CHUNK):
        own = TraceRow.prompt_id.in_(requests[at : at + CHUNK])
        parts.append(query(engine, _answers(engine, model, SHADOW_OF.is_(None) & own)))
    found = pd.concat(parts, ignore_index=True)
    order = ["key", "later", "beside", "prompt_id"]
    return _pairs(found.sort_values(order, kind="stable"))


def _repeated(engine: Engine, model: str) -> pd.DataFrame:
    """The first two answers to requests that came more than once."""
    own = (TraceRow.producer == "frontier") & SHADOW_OF.is_(None) & of_app(engine)
    again = select(TraceRow.dedup_key).where(own).group_by(TraceRow.dedup_key)
    keys = again.having(func.count() > 1)
    alone = SHADOW_OF.is_(None) & TraceRow.dedup_key.in_(keys)
    found = query(engine, _answers(engine, model, alone))
    found["key"] = found["dedup_key"]
    return _pairs(found.sort_values(["key", "ts", "prompt_id"], kind="stable"))


def _answers(engine: Engine, model: str, which: ColumnElement[bool]):
    statement = (
        select(
            REQUEST.label("key"),
            TraceRow.prompt_id,
            TraceRow.dedup_key,
            TraceRow.ts,
            TraceRow.task,
            TraceRow.model,
            TraceRow.output,
            func.coalesce(TraceUnitRow.unit, TraceRow.conversation_id).label("unit"),
            TraceRow.route["group_id"].as_string().label("group_id"),
            FIRST_ANSWER.is_not(True).label("later"),
            SHADOW_OF.is_not(None).label("beside"),
            ContractRow.body.label("contract"),
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .outerjoin(TraceUnitRow, TraceUnitRow.prompt_id == TraceRow.prompt_id)
        .where(TraceRow.producer == "frontier", WHOLE, of_app(engine), which)
    )
    return statement.where(TraceRow.model == model) if model else statement


def _pairs(answers: pd.DataFrame) -> pd.DataFrame:
    """The first two answers of each key as one row, where one model gave both."""
    place = answers.groupby("key", sort=False).cumcount()
    first, second = (answers[place == number].set_index("key") for number in (0, 1))
    both = first.loc[second.index].assign(
        other_id=second["prompt_id"], other=second["output"], other_model=second["model"]
    )
    both = both[both["model"] == both["other_model"]]
    return pd.DataFrame(
        {
            "prompt_id": both["prompt_id"],
            "other_id": both["other_id"],
            "group_id": both["group_id"].astype(object),
            "task": both["task"].astype(object),
            "unit": both["unit"].fillna(both["prompt_id"]),
            "same": agreement_of(both["output"], both["other"], both["contract"]),
        }
    ).reset_index(drop=True)
