"""What people and judges said on MLflow's review desk, as feedback.

Not here: laying items out (``mlflow_push.py``).

- A person's ``good`` is a review by that person, at the time of its last change. Whoever changes
  their mind has spoken anew, and the newest word counts.
- A person's ``correction`` goes with it; without a ``good`` it says that the answer was bad.
- An LLM judge's ``good`` is feedback of kind ``judge``: a signal, no verdict.
- An assessment that is deleted in MLflow after it was pulled stays: it was said. To take it back,
  say the opposite.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from loop_pipeline.labels.reviews.mlflow_push import PAGE
from loop_pipeline.labels.reviews.spreadsheets import VERDICTS
from loop_pipeline.store.tracking import Tracking, experiment_id, few_retries, mlflow_client
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.jsonl import BadLine, Record
from loop_pipeline.traces.ingest import import_records
from loop_pipeline.traces.records import Feedback

if TYPE_CHECKING:
    from mlflow.entities import Assessment

# Everybody's name on a server without a login.
NO_LOGIN = "default"


def pull_verdicts(engine: Engine, tracking: Tracking) -> Imported:
    """Fetch what people and judges have said. Pulling twice gives the same rows.

    Raises:
        TrackingDown: MLflow did not answer; nothing is lost, pull again later.
    """
    with few_retries(tracking.tracking_uri):
        records = list(_assessments(tracking))
    return import_records(engine, enumerate(records, start=1), source="mlflow", reviews=True)


def _assessments(tracking: Tracking) -> Iterator[Record]:
    client = mlflow_client(tracking.tracking_uri)
    place, token = [experiment_id(client, tracking)], None
    while True:
        page = client.search_traces(
            locations=place, include_spans=False, max_results=PAGE, page_token=token
        )
        for trace in page:
            if prompt_id := trace.info.tags.get("prompt_id"):
                yield from _said(prompt_id, trace.info.assessments)
        token = page.token
        if not token:
            return


def _said(prompt_id: str, assessments: list[Assessment]) -> Iterator[Record]:
    """What each source says about one answer, as feedback."""
    by_source: dict[tuple[str, str], dict[str, Assessment]] = {}
    for found in sorted(assessments, key=lambda a: a.last_update_time_ms or 0):
        if found.valid is not False:  # an overridden one has a successor
            source = (found.source.source_type, found.source.source_id or "")
            by_source.setdefault(source, {})[found.name] = found
    for (kind, source), words in by_source.items():
        good = words.get("good")
        if kind == "LLM_JUDGE" and good is not None:
            yield _feedback(prompt_id, "judge", _value(good), source, [good])
        correction = words.get("correction")
        if kind == "HUMAN" and (good or correction):
            signed = words.get("reviewer") if source == NO_LOGIN else None
            name = str(_value(signed) or "").strip()
            said = 0.0 if good is None else _value(good)
            edited = str(_value(correction) or "") or None
            # Who agrees with what is there changes nothing but the name below it.
            used = [a for a in (good, correction, signed) if a]
            yield _feedback(prompt_id, "review", said, name or source, used, edited)


def _value(assessment: Assessment | None) -> Any:
    if assessment is None:
        return None
    content = assessment.feedback or assessment.expectation
    return getattr(content, "value", None)


def _feedback(
    prompt_id: str,
    kind: str,
    said: Any,
    actor: str,
    used: list[Assessment],
    edited: str | None = None,
) -> Record:
    number = VERDICTS.get(str(said).strip().lower())
    if number is None and isinstance(said, int | float) and 0 <= said <= 1:
        number = float(said)
    if number is None:
        raw = json.dumps({"prompt_id": prompt_id, "actor": actor, "good": str(said)})
        return BadLine(raw, f"good: {str(said)!r} is neither yes nor no")
    when = max(a.last_update_time_ms or 0 for a in used)
    return Feedback(
        prompt_id=prompt_id,
        kind="review" if kind == "review" else "judge",
        value=number,
        edited_output=edited,
        actor=actor,
        ts=dt.datetime.fromtimestamp(when / 1000, dt.UTC),
    )
