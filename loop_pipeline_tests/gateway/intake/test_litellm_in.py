"""Batches of LiteLLM's `generic_api` callback."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loop_pipeline.traces.records import Trace
from loop_pipeline_tests.gateway.live import ASKED, Live
from loop_pipeline_tests.upstream import completion

RECORD: dict[str, Any] = {
    "id": "chatcmpl-77",
    "trace_id": "t-1",
    "call_type": "acompletion",
    "status": "success",
    "startTime": 1_790_000_000.25,
    "endTime": 1_790_000_001.25,
    "completionStartTime": 1_790_000_000.75,
    "model": "gpt-5.5",
    "messages": ASKED["messages"],
    "response": json.loads(completion()),
    "model_parameters": {"temperature": 0.1},
    "prompt_tokens": 21,
    "completion_tokens": 3,
    "response_cost": 0.001,
    "end_user": "ada.lovelace",
    "metadata": {"user_api_key_hash": "planted"},
}


def test_an_answered_request_is_a_trace(gateway: Live) -> None:
    assert gateway.post("/v1/ingest/litellm", json=[RECORD]).json() == {
        "accepted": 1,
        "passed_over": 0,
    }
    (row,) = gateway.rows()
    Trace.model_validate(row)
    assert (row["prompt_id"], row["output"], row["model"]) == ("77", "delivery", "gpt-5.5")
    assert (row["tokens_in"], row["tokens_out"], row["cost_usd"]) == (21, 3, 0.001)
    assert (row["latency_ms"], row["first_byte_ms"]) == (1000, 500)
    assert (row["conversation_id"], row["served_model"]) == ("t-1", "gpt-5.5-2026-10-01")
    assert "lovelace" not in json.dumps(row)
    assert "planted" not in json.dumps(row)


def test_json_lines_and_one_object_are_taken_too(gateway: Live) -> None:
    lines = "\n".join(json.dumps(RECORD | {"id": f"x{n}"}) for n in range(3))
    assert gateway.post("/v1/ingest/litellm", data=lines).json()["accepted"] == 3
    assert gateway.post("/v1/ingest/litellm", json=RECORD).json()["accepted"] == 1
    assert gateway.post("/v1/ingest/litellm", data="{}\n{").status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failure"},
        {"call_type": "aembedding"},
        {"messages": "a text"},
        {"messages": []},
        {"messages": [7]},
        {"response": None},
        {"response": {"choices": []}},
        {"startTime": None},
        {"startTime": "never"},
    ],
)
def test_what_is_no_answered_request_is_passed_over(gateway: Live, change: dict[str, Any]) -> None:
    said = gateway.post("/v1/ingest/litellm", json=[RECORD | change, RECORD])
    assert said.json() == {"accepted": 1, "passed_over": 1}
