"""What each process is told: its ports, the others' ports, and no secret but those it needs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_pipeline.processes.home_services import loop_services
from loop_pipeline.processes.service import Service
from loop_pipeline.settings import load_settings
from loop_pipeline_tests.serving.stub import Stub
from loop_pipeline_tests.shared import free_port

SECRETS = {
    "OPENAI_API_KEY": "sk-vendor-one",
    "ANTHROPIC_API_KEY": "sk-vendor-two",
    "LOOP_INSTALLATION_SECRET": "the-installation's",
    "LOOP_DATABASE_URL": "postgresql+psycopg2://loop:hunter2@db.example/loop",
    "LOOP_JUDGE_API_KEY": "the-judge's-key",
    "VLLM_API_KEY": "the-server's-key",
    "AWS_SECRET_ACCESS_KEY": "nobody's-business",
}


@pytest.fixture
def given(loop_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOOP_GATEWAY_PORT", str(free_port()))
    monkeypatch.setenv("LOOP_VLLM_URL", f"http://127.0.0.1:{free_port()}")


def _services(*, schedules: bool = True, simulated: bool = False) -> dict[str, Service]:
    found = loop_services(load_settings(), schedules=schedules, simulated=simulated)
    return {service.name: service for service in found}


def _secrets_of(service: Service) -> set[str]:
    return {name for name, value in SECRETS.items() if value in service.environment.values()}


def test_the_gateway_ends_first_the_shipper_next_and_dagster_last(given: None) -> None:
    assert list(_services()) == ["gateway", "shipper", "vllm", "mlflow", "dagster"]


def test_each_process_knows_the_secrets_it_needs_and_no_other(given: None) -> None:
    found = _services()
    store = {"LOOP_INSTALLATION_SECRET", "LOOP_DATABASE_URL"}
    vendors = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}
    assert _secrets_of(found["gateway"]) == store | vendors | {"VLLM_API_KEY"}
    assert _secrets_of(found["shipper"]) == store
    assert _secrets_of(found["vllm"]) == {"VLLM_API_KEY"}
    assert _secrets_of(found["mlflow"]) == set()
    # The pipeline runs what people write: what it may need is theirs to say, but vendors' keys.
    assert _secrets_of(found["dagster"]) == set(SECRETS) - vendors


def test_no_command_line_holds_a_secret(given: None) -> None:
    typed = " ".join(" ".join(service.command) for service in _services().values())
    assert not [value for value in SECRETS.values() if value in typed]


def test_a_simulated_frontier_gets_all_requests_and_no_vendor_any_key(given: None) -> None:
    found = _services(simulated=True)
    assert list(found)[-1] == "frontier"
    told = found["gateway"].environment
    assert (
        told["LOOP_FRONTIER_URLS"] == told["LOOP_ANTHROPIC_URLS"] == f"{found['frontier'].url}/v1"
    )
    assert not {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"} & _secrets_of(found["gateway"])


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_of_a_port_that_is_taken_the_next_is_used_and_the_others_are_told(
    given: None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_GATEWAY_PORT", str(taken))
    monkeypatch.setenv("LOOP_VLLM_URL", f"http://127.0.0.1:{taken}")
    found = _services()
    ports = [found[name].url.rpartition(":")[2] for name in ("gateway", "vllm")]
    assert len({*ports, str(taken)}) == 3
    assert f"port {taken} is taken" in found["gateway"].about
    for name in ("gateway", "dagster"):
        assert found[name].environment["LOOP_GATEWAY_PORT"] == ports[0]
        assert found[name].environment["LOOP_VLLM_URL"] == found["vllm"].url


def test_schedules_are_on_unless_they_are_left_to_people(given: None) -> None:
    assert _services()["dagster"].environment["LOOP_SCHEDULES"] == "true"
    assert _services(schedules=False)["dagster"].environment["LOOP_SCHEDULES"] == "false"


def test_vllm_waits_for_an_interpreter_and_then_for_a_base_model(
    given: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setenv("LOOP_SERVE_PYTHON", str(python))
    vllm = _services()["vllm"]
    assert "make serve-env" in vllm.waits_for()
    python.touch()
    assert "make_base" in vllm.waits_for()
    base = load_settings().artifacts / "base" / "tiny"
    base.mkdir(parents=True)
    (base / "config.json").touch()
    assert vllm.waits_for() == ""


@pytest.mark.parametrize(
    "variables",
    [
        {"LOOP_VLLM_URL": "http://gpu.example:8000"},
        {"LOOP_VLLM_URL": "http://127.0.0.1:8001,http://127.0.0.1:8002"},
        {"LOOP_SERVING_DRIVER": "kubernetes"},
    ],
)
def test_servers_that_others_run_are_shown_and_not_started(
    given: None, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _services()["vllm"].elsewhere


def test_a_server_of_loop_serve_on_this_home_is_used_while_it_answers(
    given: None, stub: Stub
) -> None:
    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "server.json").write_text(json.dumps({"url": stub.url}))
    found = _services()
    assert found["vllm"].elsewhere
    assert found["gateway"].environment["LOOP_VLLM_URL"] == stub.url
    (settings.home / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:1"}))
    assert not _services()["vllm"].elsewhere
