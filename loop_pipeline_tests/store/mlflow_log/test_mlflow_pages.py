"""What people meet in MLflow, read back through MLflow's own client."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("mlflow")
from mlflow.tracking import MlflowClient

from loop_pipeline.store.mlflow_log.mlflow_pages import KIND, NOTE, PAGES, VIEW
from loop_pipeline.store.mlflow_log.mlflow_runs import describe_version, log_evaluation, record_fit
from loop_pipeline.store.mlflow_log.run_record import recorded_run
from loop_pipeline.store.tracking import Tracking, experiment_id, register_adapter

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    return Tracking(tracking_uri=uri, data="desk")


def test_every_experiment_explains_itself(tracking: Tracking):
    client = MlflowClient(tracking.tracking_uri)
    for name, page in PAGES.items():
        of = tracking.model_copy(update={"experiment": name})
        tags = client.get_experiment(experiment_id(client, of)).tags
        assert tags[NOTE] == page.about
        assert tags[KIND] in ("custom_model_development", "genai_development")
        for link in re.findall(r"docs/[\w/-]+\.md", page.about):
            assert (ROOT / link).is_file(), link
        if page.columns:  # the page reads it as `{name, createdAt, state}`, the state as text
            view = json.loads(tags[VIEW + "loop"])
            assert view["name"] in page.about
            assert json.loads(view["state"])["selectedColumns"] == list(page.columns)


def test_an_older_experiment_gets_its_description_and_keeps_what_people_wrote(tracking: Tracking):
    client = MlflowClient(tracking.tracking_uri)
    identity = experiment_id(client, tracking)
    client.delete_experiment_tag(identity, KIND)
    client.set_experiment_tag(identity, NOTE, "ours")
    assert experiment_id(client, tracking) == identity
    tags = client.get_experiment(identity).tags
    assert tags[NOTE] == "ours"
    assert tags[KIND] == PAGES["loop"].kind


def test_a_run_is_named_by_what_it_is_and_what_came_out(tracking: Tracking, tmp_path: Path):
    client = MlflowClient(tracking.tracking_uri)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_text("w")
    title = "tiny · desk · 812 pairs"
    with recorded_run(tracking, tmp_path, title, {"about": title}) as record:
        record.rename(f"{title} · validation loss 0.120")
        record.status("FINISHED")
        version = record.register(tmp_path / "adapter", "sha")
    assert record.run_id is not None
    assert version is not None
    assert client.get_run(record.run_id).info.run_name == f"{title} · validation loss 0.120"

    for agreement, decision in ((0.912, "approved"), (0.912, "retired")):  # told again: not twice
        figures = {"gold_agreement": agreement}
        name = log_evaluation(tracking.tracking_uri, record.run_id, figures, [], decision=decision)
        assert name == f"{decision} 91.2% · {title}"
        run = client.get_run(record.run_id)
        assert (run.info.run_name, run.data.tags["decision"]) == (name, decision)

    model = tracking.registered_model
    describe_version(tracking.tracking_uri, model, version, "why", status="approved")
    assert "champion" in str(client.get_registered_model(model).description)
    assert client.get_registered_model(model).tags["data"] == "desk"
    assert client.get_model_version(model, version).description == "why"
    assert client.get_model_version(model, version).tags["status"] == "approved"
    assert register_adapter(tracking, record.run_id, tmp_path / "adapter", "sha") == version


def test_a_fit_is_recorded_once_under_its_name(tracking: Tracking):
    client = MlflowClient(tracking.tracking_uri)
    of = tracking.model_copy(update={"experiment": "loop-quality"})
    made = [
        record_fit(of, "v1", name="412 reviews", metrics={"auc": 0.8}, figures={}, details={})
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert client.get_run(made[0]).info.run_name == "412 reviews"
