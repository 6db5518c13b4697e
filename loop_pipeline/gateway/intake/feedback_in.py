"""``POST /v1/feedback``: what people did with answers, into the spool, before or after its trace.

Not here: the endpoint (``handed_in.py``), and what feedback may say (``traces/records.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import ValidationError

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.http.problems import Problem
from loop_pipeline.gateway.intake.handed_in import Batch
from loop_pipeline.traces.records import Feedback
from loop_pipeline.traces.storable import not_yet, unstorable
from loop_pipeline.traces.trace_lines import utc

# Of one request.
MOST = 10_000


def read_feedback(body: bytes, caller: Caller, _secret: bytes) -> Batch:
    """One object or a list of them; of a list all are taken, or none.

    Raises:
        Problem: a piece is wrong; names its field.
    """
    try:
        value, _ = fields.load(body)
    except ValueError as error:
        raise Problem(400, "loop_bad_feedback", f"the body is not JSON: {error}") from None
    listed = isinstance(value, list)
    items = value if listed else [value]
    if not items or len(items) > MOST:
        raise Problem(400, "loop_bad_feedback", f"hand in 1 to {MOST} pieces at once")
    now = dt.datetime.now(dt.UTC).isoformat()
    return Batch(
        [_row(item, now, caller, f"[{n}]." if listed else "") for n, item in enumerate(items)]
    )


def _row(item: Any, now: str, caller: Caller, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Problem(400, "loop_bad_feedback", f"{where or 'the body '}is no JSON object")
    if item.get("kind") == "review":
        said = "a review is handed in as a sheet or at the review desk, by people who review"
        raise Problem(400, "loop_bad_feedback", f"{where}kind: {said}", param=f"{where}kind")
    # `chatcmpl-…`, `resp_…` and `msg_…` find their trace when it is imported.
    given = item | {"app": caller.fence}
    if item.get("ts") is None:
        given["ts"] = now
    if why := unstorable(given):
        raise Problem(400, "loop_bad_feedback", f"{where}{why}", param=f"{where}{_field(why)}")
    try:
        feedback = Feedback.model_validate(given)
        # What is accepted here must not be refused once it is imported.
        if why := not_yet(utc(feedback.ts)):
            raise ValueError(why)
        return feedback.model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "kind"
        said = f"{where}{field}: {first['msg']}"
        raise Problem(400, "loop_bad_feedback", said, param=f"{where}{field}") from None
    except (ValueError, OverflowError) as error:
        raise Problem(400, "loop_bad_feedback", f"{where}{error}", param=f"{where}ts") from None


def _field(why: str) -> str:
    return why.partition(":")[0]
