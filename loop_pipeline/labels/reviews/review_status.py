"""What ``loop review`` says: the queue, the plan, the judges against people, doubtful reviewers.

Not here: the plan's arithmetic (``plan.py``).
"""

from __future__ import annotations

import datetime as dt

import pandas as pd
from sqlalchemy import Engine, select

from loop_pipeline.labels.judges import in_words, judges_agreement, opinions
from loop_pipeline.labels.quality.model import QualityModel
from loop_pipeline.labels.reviews.plan import review_plan
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts, weigh_reviewers
from loop_pipeline.labels.signals import tasks
from loop_pipeline.settings import LoopSettings
from loop_pipeline.stats.sampling import uniform_sample
from loop_pipeline.store.database import count, of_app, query, read
from loop_pipeline.store.tables import FeedbackRow, ReviewItemRow, TraceRow
from loop_pipeline.store.training_data import newest_quality_model


def describe(engine: Engine, settings: LoopSettings) -> list[str]:
    """The queue, what the reviews there are allow, judges against people, reviewers to look at."""
    feedback = read(engine, FeedbackRow, kind=["review", "judge"])
    crew = weigh_reviewers(feedback)
    drawn = _drawn(engine)
    states = drawn["status"].value_counts()
    found = verdicts(feedback, crew)
    found = found[found.index.isin(drawn.index)]
    stored = newest_quality_model(engine)
    model = QualityModel.model_validate(stored["model"]) if stored else None
    chance = drawn.loc[found.index, "p_review"].astype(float)
    plan = review_plan(
        found.assign(task=drawn["named"].reindex(found.index)),
        target_precision=settings.target_precision,
        delta=settings.delta,
        per_day=_lately(feedback) / 7,
        uniform_share=float(uniform_sample(chance).mean()) if len(chance) else 1.0,
        model=model,
    )
    good = relied_on(found)["good"].astype(bool)
    judges = judges_agreement(
        opinions(feedback),
        good,
        drawn["p_review"].astype(float),
        drawn["talk"],
        model.stack.judges if model else {},
    )
    queue = "{} open, {} wait for a second reviewer, {} done".format(
        *(states.get(state, 0) for state in ("open", "second", "done"))
    )
    looked_at = f"{len(drawn):,} of {count(engine, ReviewItemRow):,} answers drawn: {queue}"
    return [looked_at, *plan, *map(in_words, judges), *crew["warning"].dropna()]


def _drawn(engine: Engine) -> pd.DataFrame:
    """Answers that were drawn, with the name of their task and their conversation."""
    item, trace = ReviewItemRow, TraceRow
    columns = (trace.task, trace.template_hash, trace.conversation_id, trace.dedup_key)
    statement = select(item.prompt_id, item.p_review, item.status, *columns)
    statement = statement.join(trace, trace.prompt_id == item.prompt_id)
    rows = query(engine, statement.where(item.status != "skipped", of_app(engine)))
    talk = rows["conversation_id"].where(rows["conversation_id"].notna(), rows["dedup_key"])
    return rows.assign(named=tasks(rows).to_numpy(), talk=talk).set_index("prompt_id")


def _lately(feedback: pd.DataFrame) -> int:
    """Answers that people reviewed within the last seven days."""
    since = dt.datetime.now(dt.UTC) - dt.timedelta(days=7)
    reviews = feedback[feedback["kind"] == "review"]
    return reviews.loc[reviews["ts"] >= since, "prompt_id"].nunique() if len(reviews) else 0
