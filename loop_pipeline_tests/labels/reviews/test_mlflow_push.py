"""Reviews over a real MLflow store: laid out once, answered by people, fetched once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

pytest.importorskip("mlflow")
from mlflow.entities import AssessmentSource, Expectation, Feedback
from mlflow.tracing.client import TracingClient

from loop_pipeline.labels.reviews.mlflow_pull import pull_verdicts
from loop_pipeline.labels.reviews.mlflow_push import push_queue, review_tracking
from loop_pipeline.labels.reviews.queue import open_items, take_reviews_in, update_queue
from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, ReviewItemRow
from loop_pipeline.store.tracking import Tracking, TrackingDown, mlflow_client
from loop_pipeline.traces.ingest import import_file
from loop_pipeline_tests.store.mlflow_log.test_run_record import server as start_server  # noqa: F401  a fixture
from loop_pipeline_tests.store.mlflow_log.test_run_record import stop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tracking(server: str, tmp_path: Path) -> Tracking:
    """The same MLflow, an experiment of its own."""
    return Tracking(tracking_uri=server, experiment=f"review {tmp_path.name}")


@pytest.fixture
def store(
    tmp_path: Path, trace: Callable[..., Any], jsonl: Callable[..., Path], add_signals: Any
) -> Engine:
    engine = open_store(f"sqlite:///{tmp_path}/loop.db")
    import_file(engine, jsonl(trace(0, context="The order left on Monday."), trace(1), trace(2)))
    add_signals(engine, ["p0", "p1", "p2"])
    update_queue(engine, base_rate=1.0)
    return engine


def _traces(tracking: Tracking) -> dict[str, Any]:
    client = mlflow_client(tracking.tracking_uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    assert experiment is not None
    found = client.search_traces(locations=[experiment.experiment_id])
    return {trace.info.tags["prompt_id"]: trace for trace in found}


def _answer(tracking: Tracking, prompt_id: str, who: str, kind: str = "HUMAN", **said: Any) -> Any:
    """Answers questions as the UI does. Returns the last assessment."""
    desk, name = TracingClient(tracking.tracking_uri), _traces(tracking)[prompt_id].info.trace_id
    done = None
    for question, value in said.items():
        source = AssessmentSource(source_type=kind, source_id=who)
        made = Expectation if question == "correction" else Feedback
        done = desk.log_assessment(name, made(name=question, value=value, source=source))
    time.sleep(0.002)  # MLflow's clock has milliseconds
    return done


def _feedback(engine: Engine) -> list[tuple[Any, ...]]:
    rows = read(engine, FeedbackRow).sort_values("ts")
    names = ["prompt_id", "kind", "value", "actor", "edited_output"]
    return list(rows[names].itertuples(index=False, name=None))


def test_the_queue_is_laid_out_once(store: Engine, tracking: Tracking) -> None:
    new, where = push_queue(store, tracking)
    assert new == 3
    assert "review-queue?selectedQueueId=rq-" in where
    traces = _traces(tracking)
    assert set(traces) == {"p0", "p1", "p2"}
    info, (span,) = traces["p0"].info, traces["p0"].data.spans
    assert info.tags["reason"] == "base rate"
    assert info.tags["p_review"] == "1.0"
    contents = [turn["content"] for turn in span.inputs["messages"]]
    assert contents == [
        "Classify the request.",
        "Context: The order left on Monday.\n\nwhere is order 0?",
    ]
    assert span.outputs["choices"][0]["message"]["content"] == "delivery"
    links = read(store, ReviewItemRow).set_index("prompt_id")["mlflow_trace_id"]
    assert links["p0"] == info.trace_id

    assert push_queue(store, tracking)[0] == 0
    with store.begin() as connection:  # killed before the store could note the ids
        connection.execute(update(ReviewItemRow).values(mlflow_trace_id=None))
    assert push_queue(store, tracking)[0] == 3
    assert len(_traces(tracking)) == 3


def test_what_people_say_comes_back_once_under_their_names(
    store: Engine, tracking: Tracking
) -> None:
    push_queue(store, tracking)
    _answer(tracking, "p0", "ann", good=True)
    _answer(tracking, "p1", "default", good="no", correction="refund", reviewer="bob ")
    _answer(tracking, "p2", "cem", correction="neither")
    _answer(tracking, "p2", "gpt", kind="LLM_JUDGE", good=0.25)
    _answer(tracking, "p2", "eve", good="perhaps")
    _answer(tracking, "p2", "dan", helpful=True)
    done = pull_verdicts(store, tracking)
    assert (done.feedback, done.quarantined) == (4, 1)
    assert _feedback(store) == [
        ("p0", "review", 1.0, "ann", None),
        ("p1", "review", 0.0, "bob", "refund"),
        ("p2", "review", 0.0, "cem", "neither"),
        ("p2", "judge", 0.25, "gpt", None),
    ]
    assert "'perhaps' is neither yes nor no" in read(store, QuarantineRow)["reason"].iloc[0]
    again = pull_verdicts(store, tracking)
    assert (again.feedback, again.feedback_known, again.quarantined) == (0, 4, 0)


def test_a_changed_mind_is_a_newer_word_and_a_deleted_one_was_said(
    store: Engine, tracking: Tracking
) -> None:
    push_queue(store, tracking)
    desk = TracingClient(tracking.tracking_uri)
    first = _answer(tracking, "p0", "ann", good=True)
    pull_verdicts(store, tracking)
    source = AssessmentSource(source_type="HUMAN", source_id="ann")
    changed = Feedback(name="good", value=False, source=source)
    desk.update_assessment(first.trace_id, first.assessment_id, changed)
    pull_verdicts(store, tracking)
    assert [value for _, _, value, _, _ in _feedback(store)] == [1.0, 0.0]
    take_reviews_in(store)
    assert read(store, ReviewItemRow).set_index("prompt_id").loc["p0", "status"] == "done"

    time.sleep(0.002)
    over = Feedback(name="good", value=True, source=source, overrides=first.assessment_id)
    last = desk.log_assessment(first.trace_id, over)
    pull_verdicts(store, tracking)
    assert [value for _, _, value, _, _ in _feedback(store)] == [1.0, 0.0, 1.0]
    desk.delete_assessment(first.trace_id, str(last.assessment_id))
    pull_verdicts(store, tracking)
    assert _feedback(store)[2] == ("p0", "review", 1.0, "ann", None)


def test_who_disagree_are_asked_for_a_third_voice(store: Engine, tracking: Tracking) -> None:
    push_queue(store, tracking)
    desk = TracingClient(tracking.tracking_uri)
    queue = desk._list_review_queues(_traces(tracking)["p0"].info.experiment_id)[0]
    names = read(store, ReviewItemRow).set_index("prompt_id")["mlflow_trace_id"]

    def states() -> dict[str, str]:
        items = {i.item_id: str(i.status) for i in desk._list_review_queue_items(queue.queue_id)}
        return {str(prompt_id): items[name] for prompt_id, name in names.items()}

    _answer(tracking, "p0", "ann", good=True)
    _answer(tracking, "p0", "bob", good=False)
    _answer(tracking, "p1", "ann", good=True)
    desk._set_review_queue_item_status(
        queue.queue_id, item_id=names["p0"], status="complete", completed_by="bob"
    )
    pull_verdicts(store, tracking)
    take_reviews_in(store)
    push_queue(store, tracking)
    assert states() == {"p0": "pending", "p1": "complete", "p2": "pending"}
    _answer(tracking, "p0", "cem", good=True)
    pull_verdicts(store, tracking)
    take_reviews_in(store)
    assert set(open_items(store)["prompt_id"]) == {"p2"}


def test_an_mlflow_that_is_down_costs_nothing(store: Engine) -> None:
    nobody = review_tracking({"tracking_uri": "http://127.0.0.1:9"})
    for call in (push_queue, pull_verdicts):
        with pytest.raises(TrackingDown, match=r"http://127.0.0.1:9"):
            call(store, nobody)
    items = read(store, ReviewItemRow)
    assert list(items["status"]) == ["open"] * 3
    assert items["mlflow_trace_id"].isna().all()


@pytest.mark.slow
def test_a_desk_on_a_server(
    store: Engine,
    start_server: Callable[[], tuple[str, subprocess.Popen[bytes]]],  # noqa: F811
) -> None:
    url, process = start_server()
    desk = review_tracking({"tracking_uri": url})
    new, where = push_queue(store, desk)
    assert new == 3
    assert where.startswith(f"{url}/#/experiments/")
    _answer(desk, "p0", "ann", good=True)
    assert pull_verdicts(store, desk).feedback == 1
    assert push_queue(store, desk)[0] == 0
    stop(process)
    with pytest.raises(TrackingDown):
        pull_verdicts(store, desk)
    assert _feedback(store) == [("p0", "review", 1.0, "ann", None)]
