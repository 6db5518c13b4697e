"""Automation: the jobs people run, and what runs them unasked."""

import datetime as dt

import dagster as dg

from loop_pipeline.defs.jobs import (
    draw_reviews,
    label_traces,
    refresh_policy,
    refresh_quality,
    refresh_report,
    regroup,
    retrain,
)
from loop_pipeline.defs.resources import Loop
from loop_pipeline.settings import load_settings
from loop_pipeline.store.traces import days_touched, days_unlabelled
from loop_pipeline.store.training_data import count_validated_pairs, pairs_last_trained

# For what nobody turned on or off in Dagster: that stays as it was put. `loop up` sets it.
ON = load_settings().schedules
SCHEDULE = dg.DefaultScheduleStatus.RUNNING if ON else dg.DefaultScheduleStatus.STOPPED
SENSOR = dg.DefaultSensorStatus.RUNNING if ON else dg.DefaultSensorStatus.STOPPED


# Dagster shows the words of schedules and sensors as they are, without markdown.
@dg.schedule(
    job=label_traces,
    cron_schedule="0 2 * * *",
    name="daily_labels",
    default_status=SCHEDULE,
    description="""At 02:00 UTC the day before becomes training pairs (job label_traces).

When to turn it on: once your traffic is imported every day before that hour. Days that came
later are not made up for: run the job for them, or turn late_feedback on.

Read more in docs/reference/jobs.md.""",
)
def daily_labels(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for the day before."""
    day = (context.scheduled_execution_time - dt.timedelta(days=1)).date().isoformat()
    return dg.RunRequest(partition_key=day, run_key=day)


daily_reviews = dg.ScheduleDefinition(
    job=draw_reviews,
    cron_schedule="0 4 * * *",
    name="daily_reviews",
    default_status=SCHEDULE,
    description="""At 04:00 UTC new answers are drawn for review (job draw_reviews).

When to turn it on: if people look at the queue every few days.

Read more in docs/concepts/reviews.md.""",
)
weekly_quality = dg.ScheduleDefinition(
    job=refresh_quality,
    cron_schedule="0 1 * * 1",
    name="weekly_quality",
    default_status=SCHEDULE,
    description="""On Mondays at 01:00 UTC the quality score is fitted again (job
refresh_quality).

When to turn it on: once reviews come in every week. Days that were scored before keep their
scores until score_traces runs.

Read more in docs/concepts/quality.md.""",
)
weekly_groups = dg.ScheduleDefinition(
    job=regroup,
    cron_schedule="0 3 * * 1",
    name="weekly_groups",
    default_status=SCHEDULE,
    description="""On Mondays at 03:00 UTC all traffic is put into task groups again (job
regroup).

When to turn it on: once traffic comes in every week.

Read more in docs/concepts/groups.md.""",
)
weekly_policy = dg.ScheduleDefinition(
    job=refresh_policy,
    cron_schedule="0 5 * * 1",
    name="weekly_policy",
    default_status=SCHEDULE,
    description="""On Mondays at 05:00 UTC every group is certified again, by the answers of the
last LOOP_EVIDENCE_DAYS days (job refresh_policy).

When to turn it on: as soon as a student serves. A group that the alarm holds is released if answers
of after its hold certify it.

Read more in docs/concepts/monitoring.md.""",
)
daily_report = dg.ScheduleDefinition(
    job=refresh_report,
    cron_schedule="0 6 * * *",
    name="daily_report",
    default_status=SCHEDULE,
    description="""At 06:00 UTC the report is written again (job refresh_report).

When to turn it on: once a policy is in force and somebody reads the report.

Read more in docs/concepts/costs.md.""",
)

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def in_flight(instance: dg.DagsterInstance, job: str) -> dg.SkipReason | None:
    """The reason to wait while a run of a job is queued or going on; None: there is none."""
    unfinished = dg.RunsFilter(job_name=job, statuses=UNFINISHED)
    runs = instance.get_runs(unfinished, limit=1)
    return dg.SkipReason(f"run {runs[0].run_id} of {job} is not over yet") if runs else None


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=300,
    default_status=SENSOR,
    description="""Trains again each time enough new training pairs have come (job retrain).

When to turn it on: once a first retrain went well. It starts when the number of validated
pairs crosses another multiple of LOOP_RETRAIN_EVERY, no training is going on, and the last one is
LOOP_RETRAIN_COOLDOWN_HOURS ago. Each tick says how many pairs are still missing. After a failed
training it does not try again before the next multiple; re-execute that run by hand.

Read more in docs/concepts/training.md.""",
)
def enough_new_pairs(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.SensorResult | dg.SkipReason:
    """Ask for a training when the pairs have crossed another multiple of the threshold."""
    if skip := in_flight(context.instance, retrain.name):
        return skip
    engine, settings = loop.engine(), loop.settings()
    pairs = count_validated_pairs(engine)
    trained_at, when = pairs_last_trained(engine)
    every = settings.retrain_every
    step = pairs // every
    if step <= trained_at // every:
        return dg.SkipReason(f"{pairs} validated pairs; next training at {(step + 1) * every}")
    rest = dt.timedelta(hours=settings.retrain_cooldown_hours)
    if when and dt.datetime.now(dt.UTC) < when + rest:
        return dg.SkipReason(f"{pairs} validated pairs; cooling down until {when + rest:%F %T} UTC")
    # The key is the threshold crossed: one request a crossing, also after a failed run.
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"validated-{step * every}")], cursor=str(pairs)
    )


# A transaction may commit after a later one: what came since is looked for a little further back.
LATE_OVERLAP = dt.timedelta(minutes=10)
# How far back it is looked after a clock was set right.
CLOCK_AHEAD = dt.timedelta(days=1)
# Asked for at one tick; the rest at the next ones.
MOST_DAYS = 31


@dg.sensor(
    job=label_traces,
    minimum_interval_seconds=600,
    default_status=SENSOR,
    description="""Labels days again whose answers got feedback after they were labelled, and only
those (job label_traces).

When to turn it on: together with daily_labels. What came in before it is turned on is not
looked at: run the job for those days.

Read more in docs/concepts/quality.md.""",
)
def late_feedback(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the labelled days that have got feedback since the last tick."""
    now = dt.datetime.now(dt.UTC)
    if context.cursor is None:
        return dg.SensorResult(cursor=now.isoformat())
    since = dt.datetime.fromisoformat(context.cursor) - LATE_OVERLAP
    if since > now:  # the clock was ahead then: what came after it was set right is older
        since = now - CLOCK_AHEAD
    touched = days_touched(loop.engine(), since)
    if not touched:
        return dg.SkipReason("no labelled day has got feedback since")
    # The key holds the newest feedback of the day: looked at twice, it is labelled once.
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(partition_key=day, run_key=f"late-{day}-{moment.isoformat()}")
            for day, moment in touched.items()
        ],
        cursor=min(now, max(touched.values())).isoformat(),
    )


@dg.sensor(
    job=label_traces,
    minimum_interval_seconds=600,
    default_status=SENSOR,
    description="""Labels days of which answers came in after they were labelled, or that never
were (job label_traces). Today is left to the schedule.

When to turn it on: together with daily_labels, or before an import of older traffic. After a
failed run it does not try again before more traffic of that day comes in.

Read more in docs/concepts/quality.md.""",
)
def unlabelled_days(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the days that are over and hold answers without a flag."""
    if skip := in_flight(context.instance, label_traces.name):
        return skip
    settings = loop.settings()
    last = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).date().isoformat()
    days = days_unlabelled(loop.engine(), settings.first_day.isoformat(), last)
    if not days:
        return dg.SkipReason("every answer of the days that are over has its flag")
    # The key holds how many are open, and of how many: one request for what has come, also after a
    # failed run, and another one if as many come again.
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(partition_key=day, run_key=f"unlabelled-{day}-{number}-of-{total}")
            for day, (number, total) in list(days.items())[:MOST_DAYS]
        ]
    )
