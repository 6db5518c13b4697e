"""Automation: the jobs people run, and what runs them unasked."""

import datetime as dt

import dagster as dg

from loop_pipeline.defs.resources import Loop
from loop_pipeline.store.traces import days_touched
from loop_pipeline.store.training_data import count_validated_pairs, pairs_last_trained

_S = dg.AssetSelection

_KNOWN = ("raw_traces", "hallucination_flags")
_LEARNED = ("quality_scores", "labeled_pairs")
label_traces = dg.define_asset_job(
    "label_traces",
    _S.assets(*_KNOWN, "trace_signals", *_LEARNED),
    description="""Days of traffic become training pairs: flags, signals, scores, pairs.

**When to run it:** the schedule `daily_labels` does, for the day before. By hand for days that were
imported later; choose the days when you click *Materialize*.

**Read more** in `docs/reference/jobs.md`.""",
)
describe_traces = dg.define_asset_job(
    "describe_traces",
    _S.assets(*_KNOWN, "trace_signals"),
    description="""Checks every answer and collects every reaction to it. No score is needed for
this.

**When to run it:** first of all, for all days of imported traffic: reviews are drawn by what it
finds. Later `label_traces` does the same and more.

**Read more** in `docs/tutorial.md`.""",
)
score_traces = dg.define_asset_job(
    "score_traces",
    _S.assets("trace_signals", *_LEARNED),
    description="""Scores and pairs days again, by the newest reviews and the newest quality score.

**When to run it:** for all days, after `refresh_quality` made a new score.

**Read more** in `docs/concepts/quality.md`.""",
)
refresh_quality = dg.define_asset_job(
    "refresh_quality",
    _S.assets("reviewers", "quality_model"),
    description="""Weighs the reviewers, and fits the quality score and its thresholds to their
verdicts.

**When to run it:** the schedule `weekly_quality` does. By hand after many reviews came in; then run
`score_traces`.

**Read more** in `docs/concepts/quality.md`.""",
)
draw_reviews = dg.define_asset_job(
    "draw_reviews",
    _S.assets("review_queue"),
    description="""Draws the answers that people should look at, each with a known chance.

**When to run it:** the schedule `daily_reviews` does. By hand after `describe_traces`. Then
`loop review` says what waits, and how many reviews each promise still takes.

**Read more** in `docs/concepts/reviews.md`.""",
)
ask_judge = dg.define_asset_job(
    "ask_judge",
    _S.assets("judge_verdicts"),
    description="""Asks the language model at LOOP_JUDGE_URL whether a sample of answers is
supported by their requests. It costs what that model bills.

**When to run it:** by hand, if you have such a model. Its word is one signal of many, never a
label.

**Read more** in `docs/concepts/hallucination.md`.""",
)
regroup = dg.define_asset_job(
    "regroup",
    _S.assets("task_groups", "group_model_stats"),
    description="""Puts all traffic into task groups again; a group that stays keeps its name and
id.

**When to run it:** the schedule `weekly_groups` does. By hand after the first import, and after a
new kind of request came in.

**Read more** in `docs/concepts/groups.md`.""",
)
make_base = dg.define_asset_job(
    "make_base",
    _S.assets("training_set", "base_model"),
    description="""Freezes a training set, and makes sure that there is a base model to serve.

**When to run it:** once, before the first `loop serve`.

**Read more** in `docs/concepts/training.md`.""",
)
retrain = dg.define_asset_job(
    "retrain",
    _S.groups("training", "serving", "routing", "report") | _S.assets("group_model_stats"),
    description="""Trains a student and brings it as far as it may go: evaluation, gate, deployment,
policy, report. A student that does not pass the gate is not deployed.

**When to run it:** the sensor `enough_new_pairs` does. `loop serve` has to be running: the student
answers the held-out requests through that server.

**Read more** in `docs/concepts/gate.md`.""",
)
deploy = dg.define_asset_job(
    "deploy",
    _S.assets("vllm_deployment"),
    description="""Loads the approved students into every running vLLM server.

**When to run it:** after a server was replaced; the sensor `forgotten_adapters` does it by itself.

**Read more** in `docs/concepts/rollout.md`.""",
)
refresh_report = dg.define_asset_job(
    "refresh_report",
    _S.groups("report"),
    description="""Writes the report again: quality, coverage and cost as they are now.

**When to run it:** the schedule `daily_report` does. `loop report` shows the result.

**Read more** in `docs/concepts/costs.md`.""",
)

# Dagster shows the words of schedules and sensors as they are, without markdown.
daily_labels = dg.build_schedule_from_partitioned_job(
    label_traces,
    name="daily_labels",
    hour_of_day=2,
    description="""At 02:00 UTC the day before becomes training pairs (job label_traces).

When to turn it on: once your traffic is imported every day before that hour. Days that came
later are not made up for: run the job for them, or turn late_feedback on.

Read more in docs/reference/jobs.md.""",
)
daily_reviews = dg.ScheduleDefinition(
    job=draw_reviews,
    cron_schedule="0 4 * * *",
    name="daily_reviews",
    description="""At 04:00 UTC new answers are drawn for review (job draw_reviews).

When to turn it on: if people look at the queue every few days.

Read more in docs/concepts/reviews.md.""",
)
weekly_quality = dg.ScheduleDefinition(
    job=refresh_quality,
    cron_schedule="0 1 * * 1",
    name="weekly_quality",
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
    description="""On Mondays at 03:00 UTC all traffic is put into task groups again (job
regroup).

When to turn it on: once traffic comes in every week.

Read more in docs/concepts/groups.md.""",
)
daily_report = dg.ScheduleDefinition(
    job=refresh_report,
    cron_schedule="0 6 * * *",
    name="daily_report",
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


@dg.sensor(
    job=label_traces,
    minimum_interval_seconds=600,
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
    touched = days_touched(loop.engine(), dt.datetime.fromisoformat(context.cursor) - LATE_OVERLAP)
    if not touched:
        return dg.SkipReason("no labelled day has got feedback since")
    # The key holds the newest feedback of the day: looked at twice, it is labelled once.
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(partition_key=day, run_key=f"late-{day}-{moment.isoformat()}")
            for day, moment in touched.items()
        ],
        cursor=max(touched.values()).isoformat(),
    )
