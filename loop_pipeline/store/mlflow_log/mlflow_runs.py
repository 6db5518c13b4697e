"""How runs get into MLflow: the lines of a run record, a fit, an evaluation and its decision.

What the lines are, and when they are sent, is in ``run_record``.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_pipeline.store.tracking import Tracking, dataset_input, experiment_id, mlflow_client

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

Line = dict[str, Any]
# Of MLflow's API, a request.
MOST_METRICS = 1000


def post(client: MlflowClient, run_id: str, kind: str, lines: list[Line]) -> None:
    """Send lines of a run record, all of one kind.

    Args:
        client: of the MLflow store.
        run_id: the run they belong to.
        kind: ``metrics``, ``params``, ``tags``, ``name``, ``artifact``, ``dataset`` or ``status``.
        lines: as `run_record.RunRecord` writes them; ``at`` in milliseconds.
    """
    if kind == "metrics":
        _post_metrics(client, run_id, lines)
        return
    send = {"params": _post_params, "tags": _post_tags, "artifact": _post_artifact}
    send |= {"dataset": _post_dataset, "status": _post_status, "name": _post_name}
    for line in lines:
        if kind in send:  # the first line has made the run
            send[kind](client, run_id, line)


def _post_params(client: MlflowClient, run_id: str, line: Line) -> None:
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(k, str(v)) for k, v in line["content"].items()])


def _post_tags(client: MlflowClient, run_id: str, line: Line) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(k, str(v)) for k, v in line["content"].items()])


def _post_name(client: MlflowClient, run_id: str, line: Line) -> None:
    client.update_run(run_id, name=line["content"]["name"])


def _post_artifact(client: MlflowClient, run_id: str, line: Line) -> None:
    client.log_artifact(run_id, line["content"]["path"], line["content"]["folder"])


def _post_dataset(client: MlflowClient, run_id: str, line: Line) -> None:
    file = Path(line["content"]["path"])
    client.log_inputs(run_id, [dataset_input(file, line["content"]["sha256"])])


def _post_status(client: MlflowClient, run_id: str, line: Line) -> None:
    value = line["content"]["value"]
    if value == "RUNNING":
        client.update_run(run_id, status=value)
    else:
        client.set_terminated(run_id, value, line["at"])


def _post_metrics(client: MlflowClient, run_id: str, lines: list[Line]) -> None:
    from mlflow.entities import Metric

    points = [
        Metric(name, value, line["at"], line["content"]["step"])
        for line in lines
        for name, value in line["content"]["values"].items()
    ]
    for start in range(0, len(points), MOST_METRICS):
        client.log_batch(run_id, metrics=points[start : start + MOST_METRICS])


def describe_version(
    tracking_uri: str, registered_model: str, version: str, text: str, **tags: str
) -> None:
    """Set the description and tags of a model version."""
    client = mlflow_client(tracking_uri)
    client.update_model_version(registered_model, version, text)
    for name, value in tags.items():
        client.set_model_version_tag(registered_model, version, name, value)


def record_fit(
    tracking: Tracking,
    version: str,
    *,
    name: str,
    metrics: dict[str, float],
    figures: dict[str, Figure],
    details: dict[str, Any],
) -> str:
    """Record something that was fitted as a finished run of its experiment.

    Args:
        tracking: server and experiment.
        version: of the fit's content: the same fit is recorded once.
        name: of the run.
        metrics: name to value.
        figures: file name to figure.
        details: file name to what is written there as JSON.

    Returns:
        The run id.
    """
    client = mlflow_client(tracking.tracking_uri)
    experiment = experiment_id(client, tracking)
    known = client.search_runs([experiment], f"tags.version = '{version}' and status = 'FINISHED'")
    if known:
        return known[0].info.run_id
    tags = {**tracking.tags, "version": version}
    run = client.create_run(experiment, tags=tags, run_name=name)
    run_id = run.info.run_id
    _log_metrics(client, run_id, metrics)
    for file, figure in figures.items():
        client.log_figure(run_id, figure, file)
    for file, content in details.items():
        client.log_dict(run_id, content, file)
    client.set_terminated(run_id)
    return run_id


def log_evaluation(
    tracking_uri: str,
    run_id: str,
    metrics: dict[str, float],
    artifacts: list[Path],
    *,
    decision: str,
    ceiling: str = "",
) -> str:
    """Add the figures, files and result of an evaluation to a finished run.

    Args:
        tracking_uri: MLflow server.
        run_id: The run that trained the evaluated adapter.
        metrics: Name to value; ``gold_agreement`` becomes part of the run's name.
        artifacts: Files, kept under ``evaluation/``.
        decision: What the gate said, in a word.
        ceiling: How often the frontier agrees with itself, in words: no agreement without it.

    Returns:
        The run's name, from now on with the result in it.
    """
    client = mlflow_client(tracking_uri)
    _log_metrics(client, run_id, metrics)
    for path in artifacts:
        client.log_artifact(run_id, str(path), "evaluation")
    client.set_tag(run_id, "decision", decision)
    if ceiling:
        client.set_tag(run_id, "ceiling", ceiling)
    run = client.get_run(run_id)
    about = run.data.tags.get("about") or run.info.run_name or "student"
    # The table of runs shows the first two dozen characters: what came out stands there.
    title = f"{decision} {metrics['gold_agreement']:.1%} · {about}"
    client.update_run(run_id, name=title)
    return title


def _log_metrics(client: MlflowClient, run_id: str, metrics: dict[str, float]) -> None:
    """MLflow takes few characters in a name, and a thousand metrics at once."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows = [
        Metric(re.sub(r"[^\w\-. /]", "_", name)[:250], value, now, 0)
        for name, value in metrics.items()
    ]
    for start in range(0, len(rows), 1000):
        client.log_batch(run_id, metrics=rows[start : start + 1000])
