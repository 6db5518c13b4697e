"""The rows that the cascade leaves are what the readers of live evidence expect, one by one."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student
from loop_pipeline.gateway.asking.patience import Patience
from loop_pipeline.gateway.cascade import Answered, Cascade
from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.gateway.students import Students
from loop_pipeline.gateway.trace_row import trace_row
from loop_pipeline.gateway.upstream.pool import Pool
from loop_pipeline.groups.model_comparison import RANDOM, logged_rows
from loop_pipeline.routing.decision import Decision, Settled
from loop_pipeline.routing.evidence.calibration_rows import live_answers
from loop_pipeline.routing.evidence.logged_requests import logged_requests
from loop_pipeline.routing.policy import with_canary
from loop_pipeline.routing.router import Router
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.store.database import read, records, upsert
from loop_pipeline.store.shadow_answers import paired_answers, shadowed_answers
from loop_pipeline.store.tables import GroupMemberRow
from loop_pipeline.store.traces import read_traces
from loop_pipeline.traces.ingest import import_file
from loop_pipeline_tests.gateway.small_policy import (
    CONTRACT,
    completion_bytes,
    frontier_says,
    messages,
    policy,
    router,
    student_says,
    words,
)
from loop_pipeline_tests.raw_server import RawServer, reply
from loop_pipeline_tests.serving.examples import NEW, OLD

REQUESTS = 400
TEMPLATES = ("certified", "certified", "certified", "refused", "unknown")
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


def request(number: int) -> Request:
    template = TEMPLATES[number % len(TEMPLATES)]
    return Request("chat", "auto", messages(number, template), contract=CONTRACT)


@dataclass
class Live:
    """What one worker did with the requests."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, number: int, answered: Answered) -> None:
        self.rows.append(
            trace_row(
                request(number),
                answered.reply,
                prompt_id=answered.prompt_id,
                ts=NOW,
                app="desk",
                user_hash=None,
                task=None,
                conversation_id=f"c{number}",
                latency_ms=answered.latency_ms,
                first_byte_ms=None,
                retries=0,
                route=answered.route,
                producer=answered.producer,
                model=answered.model,
            )
        )

    async def one(self, cascade: Cascade, number: int) -> None:
        """One request as the HTTP side runs it."""
        name, asked = f"q{number:04d}", request(number)
        text = asked.messages[-1]["content"]
        frontier = Reply(text=frontier_says(text), finish_reason="stop", tokens_out=2)
        plan = await cascade.plan(asked, name, app="desk", conversation_id=f"c{number}")
        tried = await cascade.try_student(plan, asked, name) if plan.adapter else None

        async def ask_frontier() -> Reply:
            return frontier

        def keep(answered: Answered) -> None:
            self.keep(number, answered)

        cascade.spawn_shadows(plan, tried, asked, name, keep=keep, ask_frontier=ask_frontier)
        for row in tried.rows if tried else []:
            keep(row)
        route = tried.route if tried else plan.route
        served = tried.reply if tried is not None and tried.serve else None
        if served is not None:
            keep(Answered(name, served, "student", plan.adapter or "", 5.0, route))
        else:
            keep(Answered(name, frontier, "frontier", "big", 50.0, route))


def drive(made: Router) -> Live:
    """All requests through the cascade, forty at a time, against a scripted student's server."""
    server = RawServer(lambda c, body: c.sendall(reply(completion_bytes(body))))
    live = Live()

    async def run() -> None:
        with closing(Pool()) as pool:
            students = Students(pool, [server.url], max_tokens=8, patience=Patience(30.0))
            cascade = Cascade(students, router=lambda: made)
            for at in range(0, REQUESTS, 40):
                await asyncio.gather(*(live.one(cascade, i) for i in range(at, at + 40)))
                # On a busy machine shadows would pile up over the limit of those at once.
                await cascade.close(300)
            assert not cascade.shadows_lost_why

    asyncio.run(run())
    server.stop()
    return live


def stored(engine: Engine, live: Live, folder: Path) -> None:
    """The rows imported as the shipper does, with groups as the policy assigned them."""
    lines = folder / "live.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in live.rows), encoding="utf-8")
    done = import_file(engine, lines)
    assert (done.traces, done.quarantined) == (len(live.rows), 0)
    members = [
        {"prompt_id": row["prompt_id"], "group_id": row["route"]["group_id"]}
        | {"distance": 0.1, "x": 0.0, "y": 0.0}
        for row in live.rows
        if row["producer"] == "frontier" and row["route"]["group_id"]
    ]
    with engine.begin() as connection:
        upsert(connection, GroupMemberRow, members)


@dataclass
class Truth:
    """What must have happened to a request, by the router alone."""

    decision: Decision
    answer: Answer
    settled: Settled
    agrees: bool

    @property
    def served(self) -> bool:
        return self.settled.action == "serve"


def by_id(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["prompt_id"]: row for row in records(frame)}


def answer_of(adapter: str, number: int) -> Answer:
    said, logprobs = student_says(adapter, words(number))
    return Answer(said, logprobs, 20, 3, "stop", 1.0)


def truths(made: Router, adapter: str) -> dict[str, Truth]:
    found = {}
    for number in range(REQUESTS):
        name, asked = f"q{number:04d}", request(number)
        decision = made.decide(asked.messages, name, conversation_id=f"c{number}")
        answer = answer_of(decision.adapter or adapter, number)
        settled = made.settle(
            decision,
            answer.text,
            answer.token_logprobs,
            CONTRACT,
            finish_reason="stop",
            tokens_out=3,
        )
        own = answer_of(adapter, number)
        found[name] = Truth(decision, own, settled, own.text == frontier_says(words(number)))
    return found


@pytest.fixture(scope="module")
def plain() -> tuple[Router, Live]:
    made = router()
    return made, drive(made)


def test_the_policys_readers_find_exactly_what_was_decided(
    engine: Engine, plain: tuple[Router, Live], tmp_path: Path
) -> None:
    made, live = plain
    add_student(engine, OLD)
    stored(engine, live, tmp_path)
    adapter = made.adapters[0]
    truth = truths(made, adapter)
    drawn = {name for name, one in truth.items() if one.decision.shadow}
    escalated = {n for n, one in truth.items() if one.decision.adapter and not one.served}
    served = {name for name, one in truth.items() if one.served}
    assert min(map(len, (drawn & escalated, drawn & served, escalated, served))) > 10

    rows = by_id(read_traces(engine))
    assert set(rows) == (
        set(truth)
        | {f"{n}~{adapter}" for n in escalated | (drawn - served)}
        | {f"{n}~frontier" for n in drawn & served}
    )
    for name, one in truth.items():
        route = rows[name]["route"]
        assert rows[name]["producer"] == ("student" if one.served else "frontier")
        assert (route["arm"], route["propensity"]) == (one.decision.arm, 0.3)
        assert (route["shadow"], route["group_id"]) == (name in drawn, one.decision.group_id)
        assert route["adapter"] == one.decision.adapter
        assert route["score"] == (one.settled.score if one.decision.adapter else None)
        assert rows[name]["contract"] == CONTRACT

    # What calibration may rest on: drawn by the coin alone, both answers, the summary.
    calibration = by_id(live_answers(engine, OLD))
    request_of = {n: f"{n}~frontier" if truth[n].served else n for n in drawn}
    request_of = {n: row for n, row in request_of.items() if rows[row]["split"] != "gold"}
    assert set(calibration) == set(request_of.values())
    for name, row in request_of.items():
        found, one = calibration[row], truth[name]
        assert bool(found["agrees"]) == one.agrees
        assert (found["output"], found["frontier_output"]) == (
            *(one.answer.text, frontier_says(words(int(name[1:])))),
        )
        for part, value in one.answer.logprobs.items():
            assert found[f"logprob_{part}"] == pytest.approx(value)
        assert (found["tokens_out"], found["finish_reason"]) == (3, "stop")

    # What a new policy is judged on.
    judged = by_id(logged_requests(engine, made.bundle))
    assert set(judged) == set(truth)
    for name, one in truth.items():
        found, asked = judged[name], one.decision.arm == "student"
        assert found["p_model"] == (1.0 if asked else 0.3)
        assert found["p_frontier"] == (0.3 if one.served else 1.0)
        known = asked or name in drawn
        both = known and (not one.served or name in drawn)
        assert found["agrees"] == one.agrees if both else found["agrees"] is None
        assert found["serves"] == one.served if known else found["serves"] is None


def test_models_are_compared_on_what_the_coin_drew_and_not_on_escalations(
    engine: Engine, plain: tuple[Router, Live], tmp_path: Path
) -> None:
    made, live = plain
    stored(engine, live, tmp_path)
    drawn = {n for n, one in truths(made, made.adapters[0]).items() if one.decision.shadow}
    rows = logged_rows(read_traces(engine), read(engine, GroupMemberRow))
    assert set(rows.loc[rows["sample"] == RANDOM, "request"]) <= drawn


def test_a_canary_is_judged_on_requests_that_all_three_answered(
    engine: Engine, tmp_path: Path
) -> None:
    made = router(with_canary(policy(), policy(NEW), "25%", 0.25))
    live = drive(made)
    stored(engine, live, tmp_path)
    champion, challenger = made.adapters
    truth = truths(made, champion)
    drawn = {name for name, one in truth.items() if one.decision.shadow}
    canary = {name for name, one in truth.items() if one.decision.canary}
    assert len(canary & drawn) > 10
    assert len(canary - drawn) > 10
    pairs = paired_answers(engine, champion, challenger, NOW - dt.timedelta(hours=1))
    assert set(pairs["prompt_id"]) == drawn
    for row in pairs.to_dict("records"):
        number = int(row["prompt_id"][1:])
        assert row["frontier"] == frontier_says(words(number))
        assert row["champion"] == answer_of(champion, number).text
        assert row["challenger"] == answer_of(challenger, number).text
        assert row["contract"] == CONTRACT
    both = shadowed_answers(engine)
    assert both.groupby("adapter").size().to_dict() == dict.fromkeys(made.adapters, len(drawn))


def test_answers_that_broke_off_are_no_evidence(
    engine: Engine, plain: tuple[Router, Live], tmp_path: Path
) -> None:
    made, live = plain
    broken = Live([dict(row) for row in live.rows])
    cut = {n for i, n in enumerate(sorted(truths(made, made.adapters[0]))) if i % 2}
    for row in broken.rows:
        if row["producer"] == "frontier" and row["prompt_id"].split("~")[0] in cut:
            row["finish_reason"] = "broken"
    add_student(engine, OLD)
    stored(engine, broken, tmp_path)
    names = {n.split("~")[0] for n in live_answers(engine, OLD)["prompt_id"]}
    assert names
    assert not names & cut
    judged = logged_requests(engine, made.bundle)
    assert judged.loc[judged["prompt_id"].isin(cut), "agrees"].isna().all()
