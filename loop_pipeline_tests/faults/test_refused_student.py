"""A whole turn whose first student is refused: it ends well, and the frontier keeps everything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import dagster as dg
import pytest

from loop_pipeline.demo.runs import turn_loop
from loop_pipeline.demo.turn import Turn
from loop_pipeline.report.summary import show
from loop_pipeline.routing.policy import load_bundle
from loop_pipeline.routing.router import Router
from loop_pipeline.store.checkpoints import newest_checkpoint
from loop_pipeline.store.database import read
from loop_pipeline.store.policies import active_policy
from loop_pipeline.store.tables import DeploymentRow
from loop_pipeline_tests.whole_turn import TOPICS, whole_turn

LEAST = 1e-4  # minutes: a clock that ends every training at its first steps
pytestmark = [pytest.mark.serve, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turn]:
    """The store after a turn whose base saw next to nothing, because a clock ended it."""
    home = tmp_path_factory.mktemp("home")
    with whole_turn(home, requests=1_200, environment={}, max_minutes=LEAST) as made:
        yield made


def test_the_gate_says_why_and_that_a_clock_ended_the_training(turn: Turn) -> None:
    checkpoint = newest_checkpoint(turn.engine)
    assert checkpoint is not None
    assert checkpoint["status"] == "rejected"
    assert checkpoint["metrics"]["ended_by"] == "clock"
    said = checkpoint["metrics"]["training_cut_short"]
    assert said.startswith("The training was cut short by max_minutes: the base model at step")
    assert checkpoint["reason"].startswith(said)
    against = checkpoint["metrics"]["gate"]["against"]
    assert any(reason.startswith("A first student has to") for reason in against)


def test_mlflow_knows_it_too(turn: Turn) -> None:
    from mlflow.tracking import MlflowClient

    checkpoint = newest_checkpoint(turn.engine)
    assert checkpoint is not None
    run = MlflowClient(turn.settings.tracking_uri).get_run(checkpoint["mlflow_run_id"])
    assert run.data.tags["ended_by"] == "clock"
    assert run.data.tags["training_cut_short"] == checkpoint["metrics"]["training_cut_short"]


def test_nothing_is_deployed_and_the_refusal_is_a_warning(turn: Turn) -> None:
    assert read(turn.engine, DeploymentRow).empty
    key = dg.AssetCheckKey(dg.AssetKey("checkpoint_evaluation"), "beats_champion")
    [record] = turn.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_the_policy_in_force_sends_everything_to_the_frontier(turn: Turn) -> None:
    active = active_policy(turn.engine)
    assert active is not None
    assert active["checkpoint_id"] is None
    bundle = load_bundle(active["bundle"])
    assert bundle.groups
    router = Router.load(turn.settings.artifacts / "policies" / f"{bundle.sha256[:16]}.json")
    assert router.adapters == ()
    for text in itertools.chain(*TOPICS.values()):
        request = [
            {"role": "system", "content": "Classify."},
            {"role": "user", "content": f"{text} a1 0.5"},
        ]
        decision = router.decide(request, text)
        assert decision.arm == "frontier"
        assert "the student was refused" in decision.reason


def test_the_report_and_the_screen_say_what_it_means(
    turn: Turn, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = turn.settings.artifacts / "report"
    numbers = json.loads((folder / "numbers.json").read_text())
    refused, short = numbers["warnings"]
    assert refused.startswith("The student was refused, so nothing of it serves: the frontier")
    assert short == newest_checkpoint(turn.engine)["metrics"]["training_cut_short"]  # pyright: ignore
    page = (folder / "report.html").read_text()
    assert "The student was refused" in page
    assert "The training was cut short" in page
    show(turn.settings)
    screen = " ".join(capsys.readouterr().out.split())
    assert refused in screen
    assert short in screen


def test_a_second_turn_changes_nothing(turn: Turn) -> None:
    before = active_policy(turn.engine)
    turn_loop(turn, max_minutes=LEAST)
    assert active_policy(turn.engine) == before
