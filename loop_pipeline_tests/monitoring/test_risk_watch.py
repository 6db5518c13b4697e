"""From served answers in the store to a held group, an alert, and back."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import Engine

from loop_pipeline.gateway.access.copies import Copies
from loop_pipeline.monitoring.risk_text import lines_of_look, watched_table
from loop_pipeline.monitoring.risk_watch import BLIND, NOVELTY, Look, look
from loop_pipeline.rollout.group_holds import AUTOMATIC, HOLD, release, release_certified
from loop_pipeline.store.database import insert_new, read
from loop_pipeline.store.holds import held_groups, hold_group
from loop_pipeline.store.tables import AlertRow, GroupLineageRow
from loop_pipeline.store.watch.alerts import open_alerts, raise_alert
from loop_pipeline.store.watch.shadow_rates import shadow_rates
from loop_pipeline_tests.gateway.small_policy import policy
from loop_pipeline_tests.monitoring.served import ADAPTER, GROUP, NOW, in_force, serve, traffic

HOUR = dt.timedelta(hours=1)


def once(engine: Engine, now: dt.datetime = NOW, blind_hours: float = 24) -> Look:
    return look(engine, blind_hours=blind_hours, now=now)


def rates(engine: Engine) -> dict[str, float]:
    return {row["group_id"]: row["rate"] for row in shadow_rates(engine)}


def test_without_a_policy_or_live_rows_it_says_so(engine: Engine) -> None:
    assert lines_of_look(once(engine)) == ["nothing is watched: no policy is in force"]
    in_force(engine)
    [line] = lines_of_look(once(engine))
    assert line.endswith("no served answer was checked yet, so nothing is known of its promise")
    assert held_groups(engine) == []
    assert watched_table(once(engine))["checked"].tolist() == [0]


def test_a_group_that_breaks_its_promise_is_held_said_and_released(engine: Engine) -> None:
    bundle = in_force(engine)
    serve(engine, good=40)
    found = once(engine)
    assert (found.said, found.groups[0].risk.rows) == ([], 40)
    serve(engine, good=0, bad=20, start=100)
    [said] = once(engine).said
    assert "is held, the frontier answers its requests" in said
    [hold] = held_groups(engine)
    assert (hold["group_id"], hold["actor"]) == (GROUP, AUTOMATIC)
    assert "20 of the last 60 served answers that were checked disagree" in hold["reason"]
    [alert] = open_alerts(engine)
    assert (alert["cause"], alert["subject"], alert["day"]) == (HOLD, GROUP, NOW.date().isoformat())
    assert once(engine).said == [], "it is said once"
    assert len(held_groups(engine)) == 1

    assert "is released" in release(engine, "certified", actor="ann", reason="mended")
    assert open_alerts(engine) == []
    [kept] = read(engine, AlertRow).to_dict("records")
    assert kept["resolved"] is not None
    assert once(engine).said == [], "the old rows do not ring again"
    serve(engine, good=0, bad=20, start=200)
    assert "is held" in once(engine).said[0]
    assert bundle.certified


def test_what_another_model_did_or_a_group_it_may_not_answer_rings_nothing(
    engine: Engine,
) -> None:
    in_force(engine)
    serve(engine, good=0, bad=30, adapter="student-of-before")
    serve(engine, good=0, bad=30, start=50, group="g-refused")
    assert once(engine).said == []


def test_more_is_shadowed_while_little_is_known_while_it_is_doubtful_and_while_it_is_held(
    engine: Engine,
) -> None:
    in_force(engine)
    once(engine)
    assert rates(engine) == {GROUP: 0.1}
    assert "0 of the 300 checked answers" in shadow_rates(engine)[0]["reason"]
    serve(engine, good=300)
    once(engine)
    assert rates(engine) == {}
    for number in range(16):
        serve(engine, good=17, bad=1, start=400 + 20 * number)
    once(engine)
    assert "do not all look well" in shadow_rates(engine)[0]["reason"]
    serve(engine, good=300, start=2_500)
    once(engine)
    assert rates(engine) == {}
    raise_alert(engine, NOVELTY, "traffic", "other words", now=NOW + HOUR)
    once(engine, NOW + HOUR)
    assert shadow_rates(engine)[0]["reason"] == "the traffic looks different"
    serve(engine, good=300, start=1_000, ts=NOW + HOUR)
    once(engine, NOW + 2 * HOUR)
    assert rates(engine) == {}
    hold_group(engine, GROUP, reason="r", actor="ann")
    once(engine, NOW + 2 * HOUR)
    assert shadow_rates(engine)[0] == {"group_id": GROUP, "rate": 0.1, "reason": "it is held"}


def test_an_hour_without_evidence_is_said_and_a_day_switches_the_student_off(
    engine: Engine,
) -> None:
    bundle = in_force(engine)
    serve(engine, good=5)
    once(engine)
    for minute in range(1, 62, 10):
        traffic(engine, 40, NOW + dt.timedelta(minutes=minute), start=90_000 + 100 * minute)
    assert once(engine, NOW + dt.timedelta(minutes=50)).said == []
    [said] = once(engine, NOW + dt.timedelta(minutes=62)).said
    assert "no served answer was checked against the frontier for 61 minutes" in said
    [alert] = open_alerts(engine, BLIND)
    assert alert["subject"] == ADAPTER
    assert held_groups(engine) == []
    said = once(engine, NOW + 25 * HOUR).said
    assert any("serves unchecked for 25 hours" in line for line in said)
    assert [row["group_id"] for row in held_groups(engine)] == [
        group.group_id for group in bundle.groups if group.arm == "student"
    ]


def test_evidence_ends_the_blindness(engine: Engine) -> None:
    in_force(engine)
    traffic(engine, 400, NOW)
    late = NOW + 2 * HOUR
    assert len(once(engine, late).said) == 1
    assert once(engine, late).said == [], "once a day"
    serve(engine, good=1, ts=late)
    once(engine, late)
    assert open_alerts(engine, BLIND) == []


@pytest.mark.parametrize("hours", [-400, 400 * 24])
def test_a_clock_that_jumps_is_no_silence_while_little_is_served(
    engine: Engine, hours: int
) -> None:
    in_force(engine)
    serve(engine, good=5)
    once(engine)
    traffic(engine, 3, NOW + dt.timedelta(minutes=1))
    assert once(engine, NOW + dt.timedelta(hours=hours)).said == []
    assert held_groups(engine) == []


def test_a_held_group_that_no_policy_knows_is_a_sentence(engine: Engine) -> None:
    in_force(engine)
    hold_group(engine, "gone" * 4, reason="then", actor=AUTOMATIC)
    [said] = once(engine).said
    assert "group gonegone is held and in no policy any more: its hold does nothing" in said


def test_what_came_out_of_a_held_group_is_held_too(engine: Engine) -> None:
    hold_group(engine, "before", reason="it was wrong", actor=AUTOMATIC)
    event = {"at": NOW, "kind": "split", "reason": "", "from_id": "before", "to_id": "between"}
    more = event | {"from_id": "between", "to_id": GROUP}
    with engine.begin() as connection:
        rows = [event | {"event_id": "1"}, more | {"event_id": "2"}]
        insert_new(connection, GroupLineageRow, rows)
    in_force(engine)
    said = once(engine).said
    assert "is held: it came out of group before, which is held: it was wrong" in said[0]
    assert {row["group_id"] for row in held_groups(engine)} == {"before", GROUP}


def test_a_newer_certificate_releases_what_the_alarm_held_and_no_person(engine: Engine) -> None:
    bundle = in_force(engine)
    hold_group(engine, GROUP, reason="r", actor="ann")
    assert release_certified(engine, bundle, held_groups(engine)) == []
    release(engine, GROUP, actor="ann", reason="done")
    hold_group(engine, GROUP, reason="alarm", actor=AUTOMATIC)
    before = held_groups(engine)
    refused = [group.model_copy(update={"arm": "frontier"}) for group in bundle.groups]
    assert release_certified(engine, policy(groups=refused), before) == []
    [said] = release_certified(engine, bundle, before)
    assert said == "certified is released: certified again by 500 answers of after the hold"
    assert held_groups(engine) == []


def test_two_that_look_at_once_come_to_the_same(engine: Engine) -> None:
    in_force(engine)
    serve(engine, good=0, bad=30)
    first, second = once(engine), once(engine)
    assert (len(first.said), len(second.said)) == (1, 0)
    assert len(held_groups(engine)) == len(open_alerts(engine)) == 1


def test_the_gateway_gets_holds_and_shares_with_the_next_copy(engine: Engine, tmp_path) -> None:
    in_force(engine)
    serve(engine, good=0, bad=30)
    once(engine)
    assert Copies(tmp_path / "gateway", lambda: engine).refresh()
    said = (tmp_path / "gateway" / "holds.json").read_text()
    assert said == '{"groups": ["g-certified"], "shadow": {"g-certified": 0.1}}'
