"""Automation: the jobs people run, and what runs them unasked."""

import datetime as dt

import dagster as dg

from loop_pipeline.defs.resources import Loop
from loop_pipeline.store.traces import days_touched
from loop_pipeline.store.training_data import count_validated_pairs, pairs_last_trained

_S = dg.AssetSelection

_KNOWN, _LEARNED = ("raw_traces", "hallucination_flags"), ("quality_scores", "labeled_pairs")
label_traces = dg.define_asset_job(
    "label_traces",
    _S.assets(*_KNOWN, "trace_signals", *_LEARNED),
    description="Days of traffic become labeled pairs.",
)
describe_traces = dg.define_asset_job(
    "describe_traces",
    _S.assets(*_KNOWN, "trace_signals"),
    description="Flags and signals of days of traffic: what reviews are drawn by.",
)
score_traces = dg.define_asset_job(
    "score_traces",
    _S.assets("trace_signals", *_LEARNED),
    description="Score and pair days again, by the newest reviews and quality score.",
)
refresh_quality = dg.define_asset_job(
    "refresh_quality",
    _S.assets("reviewers", "quality_model"),
    description="Weigh reviewers; fit the quality score and its thresholds on what they have said.",
)
draw_reviews = dg.define_asset_job(
    "draw_reviews",
    _S.assets("review_queue"),
    description="Draw the traces that people should look at.",
)
ask_judge = dg.define_asset_job(
    "ask_judge",
    _S.assets("judge_verdicts"),
    description="Ask the language model at LOOP_JUDGE_URL about a sample of answers.",
)
regroup = dg.define_asset_job(
    "regroup",
    _S.assets("task_groups", "group_model_stats"),
    description="Assign all traffic to task groups; ids survive.",
)
make_base = dg.define_asset_job(
    "make_base",
    _S.assets("training_set", "base_model"),
    description="Freeze a training set and make sure that there is a base model to serve.",
)
retrain = dg.define_asset_job(
    "retrain",
    _S.groups("training", "serving", "routing", "report") | _S.assets("group_model_stats"),
    description="Train, evaluate, gate, deploy, route, report. Needs `loop serve` to be running.",
)
deploy = dg.define_asset_job(
    "deploy",
    _S.assets("vllm_deployment"),
    description="Make the running server serve the approved adapter.",
)
refresh_report = dg.define_asset_job("refresh_report", _S.groups("report"))

daily_labels = dg.build_schedule_from_partitioned_job(
    label_traces, name="daily_labels", hour_of_day=2
)
daily_reviews = dg.ScheduleDefinition(
    job=draw_reviews, cron_schedule="0 4 * * *", name="daily_reviews"
)
weekly_quality = dg.ScheduleDefinition(
    job=refresh_quality, cron_schedule="0 1 * * 1", name="weekly_quality"
)
weekly_groups = dg.ScheduleDefinition(job=regroup, cron_schedule="0 3 * * 1", name="weekly_groups")
daily_report = dg.ScheduleDefinition(
    job=refresh_report, cron_schedule="0 6 * * *", name="daily_report"
)
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(job=retrain, minimum_interval_seconds=300)
def enough_new_pairs(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.SensorResult | dg.SkipReason:
    """Retrain each time the number of validated pairs crosses another multiple of the threshold."""
    unfinished = dg.RunsFilter(job_name=retrain.name, statuses=UNFINISHED)
    if runs := context.instance.get_runs(unfinished, limit=1):
        return dg.SkipReason(f"run {runs[0].run_id} is still training")
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


@dg.sensor(job=label_traces, minimum_interval_seconds=600)
def late_feedback(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.SensorResult | dg.SkipReason:
    """Label again the days whose answers got feedback after they were labelled, and only those."""
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
