"""The sensor looks and acts in its tick; the check says what is held."""

from __future__ import annotations

import dagster as dg
from sqlalchemy import Engine

from loop_pipeline.defs.automation import weekly_policy
from loop_pipeline.defs.monitoring import risk_watch, served_answers_keep_the_promise
from loop_pipeline.defs.resources import Loop
from loop_pipeline.store.holds import held_groups
from loop_pipeline_tests.monitoring.served import GROUP, in_force, serve


def tick() -> str:
    with dg.instance_for_test() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"loop": Loop()})
        return str(risk_watch.evaluate_tick(context).skip_message)


def check() -> dg.AssetCheckResult:
    found = served_answers_keep_the_promise(loop=Loop())
    assert isinstance(found, dg.AssetCheckResult)
    return found


def test_the_tick_holds_a_group_and_the_check_warns_of_it(engine: Engine) -> None:
    assert tick() == "nothing is watched: no policy is in force"
    in_force(engine)
    serve(engine, good=30)
    assert "30 checked; 0 of the last 30 served answers" in tick()
    assert check().passed
    serve(engine, good=0, bad=20, start=100)
    assert "is held, the frontier answers its requests" in tick()
    assert [row["group_id"] for row in held_groups(engine)] == [GROUP]
    found = check()
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "held: certified [g-certif]" in str(found.description)


def test_certificates_are_made_again_every_week() -> None:
    assert weekly_policy.cron_schedule == "0 5 * * 1"
    assert weekly_policy.job_name == "refresh_policy"
