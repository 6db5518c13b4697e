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
from loop_pipeline.settings import load_settings
from loop_pipeline.store.checkpoints import newest_checkpoint
from loop_pipeline.store.database import read
from loop_pipeline.store.policies import active_policy
from loop_pipeline.store.tables import DeploymentRow
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.test_loop import ROOT, TOPICS, _traffic

pytestmark = [pytest.mark.serve, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turn]:
    """The store after a turn whose base saw next to nothing, because a clock ended it."""
    if not (ROOT / ".venv-serve/bin/python").exists():
        pytest.skip("no serving environment: run `make serve-env`")
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOP_HOME", str(home))
        patch.setenv("LOOP_SERVE_PYTHON", str(ROOT / ".venv-serve/bin/python"))
        patch.setenv("LOOP_VLLM_URL", f"http://127.0.0.1:{free_port()}")
        patch.setenv("LOOP_MAX_ANSWER_TOKENS", "16")
        made = Turn(load_settings(), say=lambda _: None)
        made.import_traces(_traffic(home / "traffic.jsonl", 1_200))
        made.run("describe_traces", days=True)
        turn_loop(made, max_minutes=1e-4)
        yield made
        made.close()


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
    turn.run("retrain")
    assert active_policy(turn.engine) == before
