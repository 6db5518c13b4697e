"""What an operator does: every replica is ready before the switch, and MLflow may be down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student, student
from loop_pipeline.artifacts import policy_folder
from loop_pipeline.rollout.commands import (
    advance_rollout,
    describe,
    history,
    return_to_previous,
    step_rollout,
    stop_rollout,
    tell,
)
from loop_pipeline.rollout.release import CannotRelease, in_force, introduce
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.settings import LoopSettings, load_settings
from loop_pipeline.store.checkpoints import adapter_name, record_deployment
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import CheckpointRow
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.rollout.test_canary_evidence import live
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.serving.examples import NEW, OLD
from loop_pipeline_tests.serving.stub import Stub
from loop_pipeline_tests.shared import ends

OLD_NAME, NEW_NAME = adapter_name(OLD), adapter_name(NEW)
WHO: dict[str, Any] = {"actor": "test", "reason": "because"}


@pytest.fixture
def stubs() -> Iterator[list[Stub]]:
    servers = [Stub(), Stub()]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def settings(stubs: list[Stub], store_url: str, monkeypatch: pytest.MonkeyPatch) -> LoopSettings:
    monkeypatch.setenv("LOOP_VLLM_URL", ",".join(stub.url for stub in stubs))
    monkeypatch.setenv("LOOP_MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    return load_settings()


@pytest.fixture
def fitted(world: World) -> tuple[PolicyBundle, PolicyBundle]:
    first = world.fit(student=student(OLD))
    return first, world.fit(student=student(NEW), previous=first)


@pytest.fixture
def desk(
    engine: Engine, settings: LoopSettings, fitted: tuple[PolicyBundle, PolicyBundle]
) -> Engine:
    """OLD is the champion, NEW in shadow."""
    for name, bundle in zip((OLD, NEW), fitted, strict=True):
        add_student(engine, name)
        introduce(engine, policy_folder(settings), bundle, staged=True, secret=settings.secret())
    return engine


def promote(desk: Engine, settings: LoopSettings) -> None:
    for _ in range(4):
        advance_rollout(desk, settings, **WHO)


def test_a_rollback_is_one_step_below_five_seconds_with_mlflow_down(
    desk: Engine, settings: LoopSettings, stubs: list[Stub], fitted
) -> None:
    promote(desk, settings)
    assert in_force(desk) == fitted[1]
    for stub in stubs:
        stub.adapters.pop(OLD_NAME, None)  # as if someone had unloaded it
    with ends(time.monotonic):
        back = return_to_previous(desk, settings, **WHO)
        said = tell(desk, settings)
    assert back.to_text() == fitted[0].to_text()
    assert (policy_folder(settings) / f"{back.sha256[:16]}.json").read_text() == signed(
        back, settings.secret()
    )
    assert [stub.adapters[OLD_NAME] for stub in stubs] == ["/adapters/a"] * 2
    statuses = read(desk, CheckpointRow).set_index("checkpoint_id")["status"].to_dict()
    assert statuses == {OLD: "approved", NEW: "retired"}
    assert "MLflow was not told: 127.0.0.1" in said
    assert "`loop rollout sync`" in said


def test_a_replica_without_the_earlier_student_prevents_it_unless_forced(
    desk: Engine, settings: LoopSettings, stubs: list[Stub], fitted
) -> None:
    promote(desk, settings)
    stubs[1].fail = (500, "EngineDeadError: out of memory")
    with pytest.raises(ServerError, match=r"replica 2 of 2.*out of memory"):
        return_to_previous(desk, settings, **WHO)
    assert in_force(desk) == fitted[1]
    assert return_to_previous(desk, settings, force=True, **WHO) == fitted[0]


def test_a_canary_is_served_everywhere_before_it_may_answer(
    desk: Engine, settings: LoopSettings, stubs: list[Stub]
) -> None:
    stubs[0].fail = (500, "no room")
    before = in_force(desk)
    with pytest.raises(ServerError, match="replica 1 of 2"):
        advance_rollout(desk, settings, **WHO)
    assert in_force(desk) == before
    stubs[0].fail = None
    assert "stage 1%" in advance_rollout(desk, settings, **WHO)
    assert [stub.adapters[NEW_NAME] for stub in stubs] == ["/adapters/b"] * 2


def test_evidence_against_it_cannot_be_overruled_by_advancing(
    desk: Engine, settings: LoopSettings, fitted
) -> None:
    live(desk, worse=60, better=5, same=100)
    with pytest.raises(CannotRelease, match=r"disagrees more often.*`loop rollout stop` ends it"):
        advance_rollout(desk, settings, **WHO)
    assert "the champion serves alone" in step_rollout(desk, settings, actor="test")
    assert in_force(desk) == fitted[0]
    assert step_rollout(desk, settings, actor="test") == "no rollout is in progress"
    for act in (stop_rollout, advance_rollout):
        with pytest.raises(CannotRelease, match="no rollout is in progress"):
            act(desk, settings, **WHO)


def test_good_evidence_takes_it_one_stage_on(desk: Engine, settings: LoopSettings) -> None:
    assert "100 more paired" in step_rollout(desk, settings, actor="test")
    live(desk, worse=3, better=9, same=900)
    assert "stage 1%" in step_rollout(desk, settings, actor="test")
    assert "25 more paired" in step_rollout(desk, settings, actor="test")


def test_people_can_read_who_serves_and_who_did(
    desk: Engine, settings: LoopSettings, stubs: list[Stub]
) -> None:
    text = describe(desk)
    assert f"champion    {OLD_NAME}" in text
    assert f"challenger  {NEW_NAME}, stage shadow, weight 0%" in text
    assert "next step   wait: 100 more paired requests" in text
    record_deployment(desk, {OLD_NAME: OLD}, [stub.url for stub in stubs], "test")
    advance_rollout(desk, settings, actor="ann", reason="looks good")
    stop_rollout(desk, settings, actor="bob", reason="complaints")
    lines = history(desk)
    assert [line.split()[2] for line in lines] == [
        "fitted", "started", "serving", "advanced", "stopped",
    ]  # fmt: skip
    assert f"{OLD_NAME} + {NEW_NAME} 1%" in lines[3]
    assert lines[3].endswith("by ann: looks good")
    assert lines[4].endswith("by bob: complaints")
    assert "no rollout is in progress" in describe(desk)


def test_an_embedded_mlflow_that_is_gone_is_not_made_anew(
    desk: Engine, settings: LoopSettings, tmp_path: Path
) -> None:
    gone = settings.model_copy(update={"mlflow_tracking_uri": f"sqlite:///{tmp_path}/gone.db"})
    assert "gone.db does not exist" in tell(desk, gone)
    assert not (tmp_path / "gone.db").exists()


def test_an_empty_store_says_so(engine: Engine, settings: LoopSettings) -> None:
    assert "everything goes to the frontier" in describe(engine)
    assert history(engine) == []
    with pytest.raises(CannotRelease, match="no policy is in force"):
        return_to_previous(engine, settings, **WHO)
