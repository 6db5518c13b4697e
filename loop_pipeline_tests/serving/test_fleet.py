"""Several replicas: all of them serve an adapter, or none is said to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student
from loop_pipeline.serving.adapter_check import remembered
from loop_pipeline.serving.fleet import Adapter, Fleet, Question, open_fleet
from loop_pipeline.serving.probes import PLAIN, adapters_of
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import Reconciled, StudentServer
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import adapter_name, record_deployment, served_adapters
from loop_pipeline.store.database import read, records
from loop_pipeline.store.tables import CheckpointRow, DeploymentRow
from loop_pipeline_tests.serving.examples import NEW, OLD, add_answers, add_traces, trace_row
from loop_pipeline_tests.serving.stub import Stub

SHORT, LONG = (
    Question([{"role": "user", "content": "hi"}]),
    Question([{"role": "user", "content": "a longer one"}], expected="A LONGER ONE"),
)
FIRST = Adapter("student-1", "/a/1", [SHORT, LONG])
SECOND = Adapter("student-2", "/a/2", [SHORT, LONG])


@pytest.fixture
def stubs() -> Iterator[list[Stub]]:
    servers = [Stub() for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def fleet(stubs: list[Stub], tmp_path: Path) -> Fleet:
    return Fleet([StudentServer(stub.url) for stub in stubs], tmp_path / "adapters.json")


def chats(stub: Stub) -> list[str]:
    return [b["messages"][-1]["content"] for path, b in stub.asked if path.endswith("completions")]


def test_every_replica_is_warmed_up_and_the_second_time_only_probed(
    fleet: Fleet, stubs: list[Stub], tmp_path: Path
) -> None:
    done = fleet.reconcile([FIRST])
    assert done == {s.url: Reconciled(["student-1"], [], []) for s in stubs}
    assert [chats(s) for s in stubs] == [["hi", "a longer one"]] * 3
    assert fleet.reconcile([FIRST]) == {s.url: Reconciled([], ["student-1"], []) for s in stubs}
    assert [chats(s) for s in stubs] == [["hi", "a longer one", "hi"]] * 3
    assert fleet.reconcile([SECOND])[stubs[0].url] == Reconciled(["student-2"], [], ["student-1"])
    assert [s.adapters for s in stubs] == [{"student-2": "/a/2"}] * 3
    assert remembered(tmp_path / "adapters.json") == {"student-2": "/a/2"}


@pytest.mark.parametrize(
    "fault",
    [
        lambda stub: setattr(stub, "fail", (500, "no room")),
        lambda stub: setattr(stub, "reply", {"choices": [], "usage": {}}),
        lambda stub: stub.stop(),
    ],
)
def test_one_replica_that_fails_is_named_and_old_adapters_stay_everywhere(
    fleet: Fleet, stubs: list[Stub], tmp_path: Path, fault
) -> None:
    fleet.reconcile([FIRST])
    fault(stubs[1])
    again = Fleet([StudentServer(stub.url) for stub in stubs], fleet.memory)
    with pytest.raises(ServerError, match="replica 2 of 3") as caught:
        again.reconcile([SECOND])
    assert stubs[1].url in str(caught.value)
    both = {"student-1": "/a/1", "student-2": "/a/2"}
    assert [s.adapters for s in stubs] == [both, {"student-1": "/a/1"}, {"student-1": "/a/1"}]
    assert remembered(tmp_path / "adapters.json") == {"student-1": "/a/1"}


def test_the_next_attempt_finishes_what_a_failure_left(fleet: Fleet, stubs: list[Stub]) -> None:
    fleet.reconcile([FIRST])
    stubs[2].fail = (500, "no room")
    with pytest.raises(ServerError, match="no room"):
        fleet.reconcile([SECOND])
    stubs[2].fail = None
    stubs[0].refuse_unload = True
    with pytest.raises(ServerError, match="cannot unload now"):
        fleet.reconcile([SECOND])
    stubs[0].refuse_unload = False
    fleet.reconcile([SECOND])
    assert [s.adapters for s in stubs] == [{"student-2": "/a/2"}] * 3


def test_another_answer_than_the_evaluated_one_is_another_model(
    fleet: Fleet, stubs: list[Stub]
) -> None:
    sure = Adapter("student-1", "/a/1", [Question(SHORT.messages, expected="bonjour")])
    with pytest.raises(ServerError, match=r"answers 'HI' where it was sure of 'bonjour'"):
        fleet.ensure([sure])
    assert [s.adapters for s in stubs] == [{}] * 3


def test_a_replica_that_forgot_is_found_and_mended(fleet: Fleet, stubs: list[Stub]) -> None:
    fleet.ensure([FIRST, SECOND])
    assert fleet.missing(["student-1", "student-2"]) == {}
    stubs[1].adapters.clear()
    assert fleet.missing(["student-1"]) == {stubs[1].url: ["student-1"]}
    assert fleet.ensure([FIRST])[stubs[1].url] == ["student-1"]
    assert [a.text for a in fleet.answers(FIRST)] == ["HI"] * 3


def test_the_settings_name_the_replicas(tmp_path: Path) -> None:
    home = {"home": tmp_path, "rollout": "staged"}
    many = LoopSettings(vllm_url="http://a:1/, http://b:2", **home)  # pyright: ignore
    assert open_fleet(many).urls == ["http://a:1", "http://b:2"]
    assert open_fleet(many).servers[0].log_path is None, "whose log would it be?"
    one = LoopSettings(vllm_url="http://a:1", **home)  # pyright: ignore
    assert open_fleet(one).servers[0].log_path == one.vllm_log
    with pytest.raises(ServerError, match="LOOP_VLLM_URL names no server"):
        open_fleet(LoopSettings(vllm_url=" , ", **home))  # pyright: ignore


def test_questions_are_short_middling_and_long_with_the_answers_on_record(engine: Engine) -> None:
    add_student(engine, OLD)
    rows = records(read(engine, CheckpointRow))
    assert adapters_of(engine, rows)[0].questions == [PLAIN]
    texts = [f"request {'long ' * i}" for i in range(9)]
    add_traces(engine, *(trace_row(f"p{i}", "x", text=t) for i, t in enumerate(texts)))
    asked = adapters_of(engine, rows)[0].questions
    assert [q.messages[-1]["content"] for q in asked] == [texts[0], texts[4], texts[8]]
    assert {q.expected for q in asked} == {None}
    add_answers(engine, OLD, {"p2": ("yes", True), "p7": ("no", False)})
    add_answers(engine, OLD, {"p8": ("perhaps", True)}, logprob_min=-0.7)
    add_answers(engine, OLD, {"p1": ("cut of", True)}, finish_reason="length")
    asked = adapters_of(engine, rows)[0].questions
    assert [(q.messages[-1]["content"], q.expected) for q in asked] == [
        (texts[2], "yes"),
        (texts[7], "no"),
    ]


def test_the_history_of_deployments_has_a_line_a_change(engine: Engine) -> None:
    old, new = adapter_name(OLD), adapter_name(NEW)
    for adapters in ({old: OLD}, {old: OLD}, {old: OLD, new: NEW}, {new: NEW}):
        record_deployment(engine, adapters, ["http://a", "http://b"], "test")
    rows = read(engine, DeploymentRow).sort_values("at")
    assert rows[["adapter_name", "status"]].to_numpy().tolist() == [
        [old, "serving"],
        [new, "serving"],
        [old, "unloaded"],
    ]
    assert served_adapters(engine)["adapter_name"].tolist() == [new]
    record_deployment(engine, {new: NEW}, ["http://a"], "one replica fewer")
    assert served_adapters(engine)["server_url"].tolist() == ["http://a"]
