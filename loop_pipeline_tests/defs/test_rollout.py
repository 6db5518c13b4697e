"""A replica that came back empty is deployed to again."""

from __future__ import annotations

import dagster as dg
import pytest
from sqlalchemy import Engine

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.rollout import forgotten_adapters
from loop_pipeline.store.checkpoints import adapter_name, record_deployment
from loop_pipeline_tests.serving.examples import OLD
from loop_pipeline_tests.serving.stub import Stub


def tick() -> dg.SensorExecutionData:
    with dg.instance_for_test() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"loop": Loop()})
        return forgotten_adapters.evaluate_tick(context)


def test_what_a_replica_forgot_is_deployed_again(
    engine: Engine, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_VLLM_URL", stub.url)
    assert tick().skip_message == "every replica serves 0 adapters"
    name = adapter_name(OLD)
    record_deployment(engine, {name: OLD}, [stub.url], "test")
    [request] = tick().run_requests or []
    assert request.tags["loop/missing"] == f"{stub.url}: ['{name}']"
    stub.adapters[name] = "/adapters/a"
    assert tick().skip_message == "every replica serves 1 adapters"
    stub.stop()
    assert "a replica does not answer" in str(tick().skip_message)
