"""MLflow: datasets, adapters and their versions. Imported inside functions: it takes seconds.

Everything goes by run id, so that it works from any process. `run_record` writes the runs of
trainings, `mlflow_runs` what is known after a fit or an evaluation.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from loop_pipeline.masking import mask_secrets
from loop_pipeline.store.mlflow_log.mlflow_pages import MODEL, page_tags

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.tracking import MlflowClient


class Tracking(BaseModel):
    """Where a run is recorded."""

    tracking_uri: str = Field(description="MLflow server, or sqlite:///.../mlflow.db.")
    artifact_root: str = Field(default="", description="Folder or bucket; empty: the server's.")
    experiment: str = "loop"
    registered_model: str = "loop-student"
    data: str = Field(default="", description="Whose traffic; part of the runs' names.")
    tags: dict[str, str] = {}


def mlflow_client(tracking_uri: str) -> MlflowClient:
    """A client of one MLflow store."""
    from mlflow.tracking import MlflowClient

    # That it makes its tables is of no interest to who starts a training.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri)


def _artifact_location(tracking: Tracking) -> str | None:
    """Artifacts of a SQLite store go beside its file: MLflow's default is the working folder."""
    if tracking.artifact_root:
        root = tracking.artifact_root
        return root if "://" in root else Path(root).absolute().as_uri()
    if tracking.tracking_uri.startswith("sqlite:///"):
        return (Path(tracking.tracking_uri[10:]).absolute().parent / "mlruns").as_uri()
    return None


def experiment_id(client: MlflowClient, tracking: Tracking) -> str:
    """Id of the experiment, which is made if it is not there, and explains itself."""
    found, tags = client.get_experiment_by_name(tracking.experiment), page_tags(tracking.experiment)
    if found is None:
        return client.create_experiment(tracking.experiment, _artifact_location(tracking), tags)
    for name in tags.keys() - found.tags.keys():  # what people have changed stays
        client.set_experiment_tag(found.experiment_id, name, tags[name])
    return found.experiment_id


def dataset_input(train_file: Path, sha256: str) -> DatasetInput:
    """A training set as the input of a run.

    Args:
        train_file: The rows (JSONL): ``prompt_id``, and conversations whose last turn counts.
        sha256: Data version of the set; its first 36 characters are MLflow's digest.
    """
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import DatasetInput, InputTag

    rows = pd.read_json(train_file, lines=True, dtype=False)
    turns = [c for c in ("prompt", "completion", "chosen", "rejected") if c in rows]
    flat = rows[["prompt_id"]].assign(**{c: [t[-1]["content"] for t in rows[c]] for c in turns})
    target = "chosen" if "chosen" in rows else "completion"
    dataset = from_pandas(
        flat, source=str(train_file), targets=target, name="training_set", digest=sha256[:36]
    )
    tags = [InputTag("mlflow.data.context", "training"), InputTag("sha256", sha256)]
    return DatasetInput(dataset._to_mlflow_entity(), tags)


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

    client = mlflow_client(tracking.tracking_uri)
    model = tracking.registered_model
    for found in client.search_model_versions(f"name = '{model}' and run_id = '{run_id}'"):
        if found.tags.get("adapter_sha256") == sha256:
            return str(found.version)
    client.log_artifacts(run_id, str(adapter_dir), "adapter")
    if not client.search_registered_models(f"name = '{model}'"):
        try:
            client.create_registered_model(model, {"data": tracking.data}, MODEL)
        except RestException as error:  # another run made it in between
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    source = f"{client.get_run(run_id).info.artifact_uri}/adapter"
    tags = {**tracking.tags, "adapter_sha256": sha256, "status": "candidate"}
    return str(client.create_model_version(model, source, run_id, tags=tags).version)


class TrackingDown(RuntimeError):
    """MLflow did not take a record. The text says why; it can be delivered later."""


@contextmanager
def few_retries(tracking_uri: str) -> Iterator[None]:
    """Give up on an MLflow that does not answer after seconds, not after its usual minutes.

    Raises:
        TrackingDown: it did not answer, or it refused.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).partition("\n")[0]
        said = mask_secrets(f"MLflow at {tracking_uri}: {first}")[:400]
        raise TrackingDown(said) from None  # what it came from may show a password


def set_alias(
    tracking_uri: str, registered_model: str, version: str, alias: str = "champion"
) -> None:
    """Let an alias point to a model version; serving and routing read the alias's version."""
    mlflow_client(tracking_uri).set_registered_model_alias(registered_model, alias, version)


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
        first = str(error).partition("\n")[0]
        return f"{type(error).__name__}: {mask_secrets(first)}"
    return None
