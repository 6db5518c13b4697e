"""The review desk: laying open items out in MLflow's review queue.

Not here: fetching what was said (``mlflow_pull.py``).

They become traces of the experiment ``loop-review`` and items of its queue ``loop``, with three
questions: ``good``, ``correction`` (what the answer should have been) and ``reviewer`` (a name, for
servers without a login, on which everybody is "default"). ``assessments`` fetches the answers.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import Engine, bindparam

from loop_pipeline.hashing import digest
from loop_pipeline.labels.reviews.queue import open_items
from loop_pipeline.masking import masked
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import ReviewItemRow
from loop_pipeline.store.tracking import Tracking, experiment_id, few_retries, mlflow_client

if TYPE_CHECKING:
    from mlflow.entities import Span, TraceInfo
    from mlflow.tracing.client import TracingClient

EXPERIMENT = "loop-review"
QUEUE = "loop"
PAGE = 100
PREVIEW = 1000


def review_tracking(target: dict[str, str]) -> Tracking:
    """Where reviews take place, for what ``LoopSettings.mlflow_target`` gives."""
    return Tracking.model_validate(target | {"experiment": EXPERIMENT})


def push_queue(engine: Engine, tracking: Tracking) -> tuple[int, str]:
    """Lay out what waits for review. Pushing twice makes no second trace.

    Returns:
        How many items were new there, and where people find them.

    Raises:
        TrackingDown: MLflow did not take them; the queue stays open, push again later.
    """
    items = open_items(engine)
    new = items[items["mlflow_trace_id"].isna()]
    with few_retries(tracking.tracking_uri):
        experiment = experiment_id(mlflow_client(tracking.tracking_uri), tracking)
        desk = _client(tracking)
        queue_id = _queue(desk, experiment)
    for start in range(0, len(new), PAGE):
        part = new.iloc[start : start + PAGE]
        with few_retries(tracking.tracking_uri):
            trace_ids = _lay_out(desk, experiment, queue_id, part)
        _remember(engine, part["prompt_id"], trace_ids)
    status = read(engine, ReviewItemRow, columns=["mlflow_trace_id", "status"]).dropna()
    with few_retries(tracking.tracking_uri):
        _reopen_and_close(desk, queue_id, status.set_index("mlflow_trace_id")["status"])
    page = f"/#/experiments/{experiment}/review-queue?selectedQueueId={queue_id}"
    shown = masked(tracking.tracking_uri)
    if shown.startswith("http"):
        return len(new), shown.rstrip("/") + page
    return len(new), f"{page} of `mlflow ui --backend-store-uri {shown}`"


def _client(tracking: Tracking) -> TracingClient:
    # The public functions of mlflow.genai know one server a process, the client knows its own.
    from mlflow.tracing.client import TracingClient

    return TracingClient(tracking.tracking_uri)


def _queue(desk: TracingClient, experiment: str) -> str:
    """Id of the queue, which is made with its questions if it is not there."""
    from mlflow.genai.label_schemas import InputPassFail, InputText

    for queue in desk._list_review_queues(experiment):
        if queue.name == QUEUE:
            return queue.queue_id
    ask: dict[str, dict[str, Any]] = {
        "good": {
            "type": "feedback",
            "input": InputPassFail("good", "bad"),
            "instruction": "Would you have sent this answer as it is?",
        },
        "correction": {
            "type": "expectation",
            "input": InputText(),
            "instruction": "If not: the answer as it should have been. May stay empty.",
        },
        "reviewer": {
            "type": "feedback",
            "input": InputText(),
            "instruction": "Your name, if you did not log in to this server.",
        },
    }
    there = {schema.name: schema.schema_id for schema in desk._list_label_schemas(experiment)}
    for name, question in reversed(ask.items()):  # the page shows the newest first
        if name not in there:
            made = desk._create_label_schema(experiment, name=name, **question)
            there[name] = made.schema_id
    ids = [str(there[name]) for name in ask]
    made = desk._create_review_queue(experiment, name=QUEUE, queue_type="custom", schema_ids=ids)
    return made.queue_id


def _lay_out(desk: TracingClient, experiment: str, queue_id: str, items: pd.DataFrame) -> list[str]:
    made = [_trace(item, experiment) for item in items.to_dict("records")]
    for _, info in made:
        desk.start_trace(info)
    desk.log_spans(experiment, [span for span, _ in made])
    trace_ids = [info.trace_id for _, info in made]
    desk._add_items_to_review_queue(queue_id, item_ids=trace_ids)
    return trace_ids


def _remember(engine: Engine, prompt_ids: Iterable[str], trace_ids: list[str]) -> None:
    table: Any = ReviewItemRow.__table__
    statement = table.update().where(table.c.prompt_id == bindparam("item"))
    rows = [
        {"item": item, "trace": trace} for item, trace in zip(prompt_ids, trace_ids, strict=True)
    ]
    with engine.begin() as connection:
        connection.execute(statement.values(mlflow_trace_id=bindparam("trace")), rows)


def _trace(item: dict[Any, Any], experiment: str) -> tuple[Span, TraceInfo]:
    """An item as a trace of one span. Its id follows from the prompt id: it is made once."""
    from mlflow.entities import Span, TraceInfo, TraceLocation, TraceState

    name, now = digest(EXPERIMENT, experiment, item["prompt_id"])[:32], time.time_ns()
    messages = _as_shown(item["messages"], item["context"])
    attributes = {
        "mlflow.traceRequestId": f"tr-{name}",
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.spanInputs": {"messages": messages},
        "mlflow.spanOutputs": {
            "choices": [{"message": {"role": "assistant", "content": item["output"]}}]
        },
    }
    span = Span.from_dict(
        {
            "name": "answer",
            "trace_id": _base64(name),
            "span_id": _base64(name[:16]),
            "parent_span_id": None,
            "start_time_unix_nano": now,
            "end_time_unix_nano": now,
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "events": [],
            "attributes": {key: json.dumps(value) for key, value in attributes.items()},
        }
    )
    flags = "; ".join(str(reason) for reason in item["flags"] or [])
    tags = {"mlflow.traceName": "answer", "prompt_id": item["prompt_id"], "flags": flags}
    tags |= {name: str(item[name] or "") for name in ("task", "reason", "p_review")}
    info = TraceInfo(
        trace_id=f"tr-{name}",
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=now // 10**6,
        state=TraceState.OK,
        request_preview=str(messages[-1]["content"])[:PREVIEW],
        response_preview=item["output"][:PREVIEW],
        tags={key: value[:PREVIEW] for key, value in tags.items() if value},
    )
    return span, info


def _as_shown(turns: list[dict[str, Any]], context: str | None) -> list[dict[str, Any]]:
    """The request with all that an answer is judged by in its last turn: the page shows no other.

    System turns stay as they are, behind "View full trace".
    """
    system = [{"role": "system", "content": t["content"]} for t in turns if t["role"] == "system"]
    said = [turn for turn in turns if turn["role"] != "system"] or turns[-1:]
    parts = [f"{turn['role']}: {turn['content']}" for turn in said[:-1]]
    parts += [f"Context: {context}"] if context else []
    last = "\n\n".join([*parts, str(said[-1]["content"])])
    return [*system, {"role": "user", "content": last}]


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _reopen_and_close(desk: TracingClient, queue_id: str, known: pd.Series) -> None:
    """What waits for another voice is asked again; what was decided elsewhere is not."""
    token = None
    while True:
        page = desk._list_review_queue_items(queue_id, max_results=PAGE, page_token=token)
        for item in page:
            waits = known.get(item.item_id) in ("open", "second")
            wanted = "pending" if waits else "complete"
            if item.item_id in known.index and str(item.status) not in (wanted, "declined"):
                by = None if waits else EXPERIMENT
                desk._set_review_queue_item_status(
                    queue_id, item_id=item.item_id, status=wanted, completed_by=by
                )
        token = page.token
        if not token:
            return
