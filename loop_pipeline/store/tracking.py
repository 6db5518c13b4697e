"""MLflow: runs, datasets, adapters and their versions. Imported inside functions: it takes seconds.

The training process logs through the fluent API between ``start_run`` and its end; everything
else goes by run id, so that it works from any process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class Tracking(BaseModel):
    """Where a run is recorded."""

    tracking_uri: str = Field(description="MLflow server, or sqlite:///.../mlflow.db.")
    artifact_root: str = Field(default="", description="Folder or bucket; empty: the server's.")
    experiment: str = "loop"
    registered_model: str = "loop-student"
    tags: dict[str, str] = {}


def _client(tracking_uri: str) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def _artifact_location(tracking: Tracking) -> str | None:
    """Artifacts of a SQLite store go beside its file: MLflow's default is the working folder."""
    if tracking.artifact_root:
        root = tracking.artifact_root
        return root if "://" in root else Path(root).absolute().as_uri()
    if tracking.tracking_uri.startswith("sqlite:///"):
        return (Path(tracking.tracking_uri[10:]).absolute().parent / "mlruns").as_uri()
    return None


@contextmanager
def start_run(tracking: Tracking, run_id_file: Path) -> Iterator[str]:
    """Open the run named in a file, or a new one whose id is written there.

    A killed training leaves its run open; the resumed one goes on in it. An exception marks the
    run as failed and passes on.

    Args:
        tracking: Server, experiment and tags.
        run_id_file: Where the run's id outlives the process.

    Yields:
        The MLflow run id.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking.tracking_uri)
    if mlflow.get_experiment_by_name(tracking.experiment) is None:
        mlflow.create_experiment(tracking.experiment, _artifact_location(tracking))
    mlflow.set_experiment(tracking.experiment)
    known = run_id_file.read_text(encoding="utf-8") if run_id_file.exists() else ""
    with mlflow.start_run(run_id=known or None, tags=tracking.tags) as run:
        if tracking.tags:
            mlflow.set_tags(tracking.tags)
        run_id_file.write_text(run.info.run_id, encoding="utf-8")
        yield run.info.run_id


def log_inputs(params: dict[str, Any], train_file: Path, sha256: str) -> None:
    """Log the parameters and the training set of the open run.

    Args:
        params: Flat parameters of the run.
        train_file: The prompt/completion rows (JSONL).
        sha256: Data version of the set; its first 36 characters are MLflow's digest.
    """
    import mlflow
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas

    mlflow.log_params(params)
    rows = pd.read_json(train_file, lines=True, dtype=False)
    flat = pd.DataFrame(
        {
            "prompt_id": rows["prompt_id"],
            "prompt": [turns[-1]["content"] for turns in rows["prompt"]],
            "completion": [turns[-1]["content"] for turns in rows["completion"]],
        }
    )
    dataset = from_pandas(
        flat, source=str(train_file), targets="completion", name="training_set", digest=sha256[:36]
    )
    mlflow.log_input(dataset, context="training", tags={"sha256": sha256})


def register_adapter(tracking: Tracking, run_id: str, adapter_dir: Path, sha256: str) -> str:
    """Store an adapter's files with its run and register them as a model version.

    Args:
        tracking: Server and registered model.
        run_id: The run that made the adapter.
        adapter_dir: The adapter's folder.
        sha256: Of the adapter's weights; a tag of the version.

    Returns:
        The version; the same one if this adapter of this run is registered already.
    """
    from mlflow.exceptions import RestException

    client = _client(tracking.tracking_uri)
    model = tracking.registered_model
    for found in client.search_model_versions(f"name = '{model}' and run_id = '{run_id}'"):
        if found.tags.get("adapter_sha256") == sha256:
            return str(found.version)
    client.log_artifacts(run_id, str(adapter_dir), "adapter")
    if not client.search_registered_models(f"name = '{model}'"):
        try:
            client.create_registered_model(model)
        except RestException as error:  # another run made it in between
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    source = f"{client.get_run(run_id).info.artifact_uri}/adapter"
    tags = {**tracking.tags, "adapter_sha256": sha256}
    return str(client.create_model_version(model, source, run_id, tags=tags).version)


def set_alias(
    tracking_uri: str, registered_model: str, version: str, alias: str = "champion"
) -> None:
    """Let an alias point to a model version; serving and routing read the alias's version."""
    _client(tracking_uri).set_registered_model_alias(registered_model, alias, version)


def point_alias(tracking_uri: str, registered_model: str, version: str) -> str | None:
    """Set the alias ``champion`` if MLflow is there; wait no more than a few seconds for it.

    Returns:
        None, or why it could not be set.
    """
    from urllib.parse import urlsplit

    import requests

    if tracking_uri.startswith("sqlite:///"):
        if not Path(tracking_uri.removeprefix("sqlite:///")).exists():
            return f"{tracking_uri} does not exist"  # opening it would make an empty one
    elif tracking_uri.startswith("http"):
        address = urlsplit(tracking_uri)
        place = f"{address.hostname}:{address.port or ''}"
        try:
            requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=2)
        except requests.RequestException as error:
            return f"{place} does not answer ({type(error).__name__})"
    try:
        set_alias(tracking_uri, registered_model, version)
    except Exception as error:  # noqa: BLE001  whatever it is, what was switched stays switched
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def log_evaluation(
    tracking_uri: str, run_id: str, metrics: dict[str, float], artifacts: list[Path] | None = None
) -> None:
    """Add the figures and files of an evaluation to a finished run.

    Args:
        tracking_uri: MLflow server.
        run_id: The run that trained the evaluated adapter.
        metrics: Name to value.
        artifacts: Files, kept under ``evaluation/``.
    """
    client = _client(tracking_uri)
    for name, value in metrics.items():
        client.log_metric(run_id, name, value)
    for path in artifacts or []:
        client.log_artifact(run_id, str(path), "evaluation")
