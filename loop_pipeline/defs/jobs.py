"""The jobs people run.

What runs them unasked is in ``automation``.
"""

import dagster as dg

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


refresh_policy = dg.define_asset_job(
    "refresh_policy",
    _S.assets("routing_policy") | _S.groups("report"),
    description="""Makes the routing policy again from what the traffic says by now, without a
training: live answers that several models gave to one request count beside the held-out ones, and
none that is older than LOOP_EVIDENCE_DAYS.

**When to run it:** the schedule `weekly_policy` does. By hand after `label_traces` and `regroup`
have taken in new traffic, or when the alarm holds a group.

**Read more** in `docs/concepts/routing.md`.""",
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
