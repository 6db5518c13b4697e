"""The frontier's bill of a store whose truth is known: each request once, by the frontier alone."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import Engine

from loop_pipeline.report.bill import logged_traffic, routed_costs
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle
from loop_pipeline.settings import LoopSettings, load_settings
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import GroupMemberRow
from loop_pipeline.store.unpriced_traces import unpriced_remark
from loop_pipeline_tests.serving.examples import add_traces, trace_row

BEGIN = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
STUDENT = {"producer": "student", "cost_usd": 0.001}
PRICE = 0.01


def _hour(n: float) -> dict[str, dt.datetime]:
    return {"ts": BEGIN + dt.timedelta(hours=n)}


@pytest.fixture
def traffic(engine: Engine) -> Engine:
    """Twelve requests in ten hours: ten by the frontier, two by a student, one of them shadowed."""
    rows = [trace_row(f"f{n}", "x", cost_usd=PRICE, text=f"q{n}", **_hour(n)) for n in range(9)]
    # The words of the first, asked and billed again.
    rows.append(trace_row("again", "x", cost_usd=PRICE, text="q0", **_hour(10)))
    # A student's and a second frontier's answer beside the frontier's own.
    rows.append(trace_row("f0-s", "x", **STUDENT, **_hour(1), route={"shadow_of": "f0"}))
    rows.append(trace_row("f1-f", "x", cost_usd=0.5, **_hour(2), route={"shadow_of": "f1"}))
    rows.append(trace_row("s0", "x", **STUDENT, **_hour(3), route={"adapter": "student-1"}))
    rows.append(trace_row("s1", "x", **STUDENT, **_hour(4), route={"adapter": "student-1"}))
    rows.append(trace_row("s1-f", "x", cost_usd=PRICE, **_hour(4), route={"shadow_of": "s1"}))
    add_traces(engine, *rows)
    members = [
        {"prompt_id": row["prompt_id"], "group_id": "g", "distance": 0.1, "x": 0.0, "y": 0.0}
        for row in rows
    ]
    with engine.begin() as connection:
        upsert(connection, GroupMemberRow, members)
    return engine


def _policy(coverage: float) -> PolicyBundle:
    group = GroupPolicy.model_construct(group_id="g", arm="student", coverage=coverage)
    return PolicyBundle.model_construct(groups=[group], exploration_rate=0.02)


def _settings(**given: float) -> LoopSettings:
    return load_settings().model_copy(update=given)


def test_each_request_is_billed_once_by_the_frontier_alone(traffic: Engine) -> None:
    found = logged_traffic(traffic)
    assert found.requests == 12
    assert found.hours == 10
    # Nine, the repeated one, and the shadow call of what the student had served.
    assert sorted(found.frontier_usd.index) == sorted(
        [*(f"f{n}" for n in range(9)), "again", "s1-f"]
    )
    assert found.frontier_usd.sum() == pytest.approx(11 * PRICE)


def test_what_is_unpriced_is_named_and_in_no_figure(traffic: Engine) -> None:
    before = routed_costs(traffic, _settings(requests_per_hour=100.0), _policy(0.8))
    rows = [
        trace_row(f"u{n}", "x", model="own-9", text=f"u{n}", tokens_in=5, **_hour(5))
        for n in (1, 2)
    ]
    add_traces(traffic, *(row | {"cost_usd": None} for row in rows))
    found = logged_traffic(traffic)
    assert found.unpriced == {"own-9": 2}
    assert found.requests == 14
    assert found.frontier_usd.sum() == pytest.approx(11 * PRICE)
    after = routed_costs(traffic, _settings(requests_per_hour=100.0), _policy(0.8))
    assert before is not None
    assert after is not None
    assert (after.requests, after.frontier_usd) == (before.requests, before.frontier_usd)
    assert unpriced_remark(traffic) == (
        "2 of 14 answers are unpriced (own-9 2): name its price in LOOP_PRICES_FILE"
    )


def test_where_nothing_has_a_price_there_is_no_bill(engine: Engine) -> None:
    row = trace_row("u", "x", model="own-9", text="u", tokens_in=5, **_hour(5))
    add_traces(engine, row | {"cost_usd": None})
    assert routed_costs(engine, _settings(), _policy(0.8)) is None


def test_an_empty_store_has_no_bill(engine: Engine) -> None:
    assert logged_traffic(engine).requests == 0
    assert routed_costs(engine, _settings(), _policy(0.8)) is None


def test_the_bill_as_routed_is_the_one_worked_out_by_hand(traffic: Engine) -> None:
    rent = 0.004  # an hour: 1.2 calls an hour of it cost 0.0045 each, of 0.01
    settings = _settings(server_hourly_usd=rent, requests_per_hour=100.0)
    costs = routed_costs(traffic, settings, _policy(0.8), training_seconds=1800)
    assert costs is not None
    assert costs.logged_requests_per_hour == pytest.approx(1.2)
    assert costs.break_even_requests_per_hour == pytest.approx(rent * 1.35 / (0.8 * PRICE))
    assert costs.pays is True
    unit = rent * 1.35 / 100
    assert costs.frontier_usd == pytest.approx(0.11)
    assert costs.blended_ratio == pytest.approx((11 * unit + 0.2 * 0.11) / 0.11)
    assert costs.parts["training"] == pytest.approx(rent * 1.35 / 2)
    assert costs.parts["frontier, shadow calls"] == pytest.approx(0.02 * 0.8 * 0.11)
    assert costs.parts["review"] == 0
    # Of all that is shadowed a twentieth is asked twice, whoever answered.
    assert costs.parts["frontier, asked twice"] == pytest.approx(0.05 * 0.02 * 0.11)


def test_no_saving_is_claimed_below_the_break_even(traffic: Engine) -> None:
    settings = _settings(server_hourly_usd=0.10, requests_per_hour=7200.0)
    costs = routed_costs(traffic, settings, _policy(0.8))
    assert costs is not None
    assert costs.pays is False
    assert costs.requests_per_hour == pytest.approx(1.2)
    assert costs.assumed_requests_per_hour == 7200
    unit = 0.10 * 1.35 / 1.2
    assert costs.covered_ratio == pytest.approx(unit / PRICE)
    assert costs.blended_ratio == pytest.approx((11 * unit + 0.2 * 0.11) / 0.11)
    assert costs.blended_ratio > 1
