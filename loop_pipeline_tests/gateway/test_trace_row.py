from __future__ import annotations

import datetime as dt
import json
from typing import Any

from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.gateway.trace_row import trace_row
from loop_pipeline.traces.importers.jsonl import parse_line
from loop_pipeline.traces.trace_lines import TraceLine

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "order", "arguments": '{"number": 7}'},
}


def _row(request: Request, reply: Reply, **more: Any) -> dict[str, Any]:
    return trace_row(
        request,
        reply,
        **{
            "prompt_id": "p1",
            "ts": dt.datetime(2026, 11, 1, 10, tzinfo=dt.UTC),
            "app": "shop",
            "user_hash": "u",
            "task": "desk",
            "conversation_id": "c",
            "latency_ms": 12.5,
            "first_byte_ms": 3.0,
            "retries": 1,
            "route": {"rung": "frontier"},
            "producer": "frontier",
            "model": "gpt-5",
        }
        | more,
    )


def _asked(text: str = "where is order 7?", **more: Any) -> Request:
    return Request("chat", "gpt-5", [{"role": "user", "content": text}], **more)


def test_a_row_is_a_line_of_the_import_format_with_everything_that_is_known():
    request = _asked(tools=[{"type": "function"}], parameters={"temperature": 0}, tags={"a": "b"})
    reply = Reply(
        text="One moment.",
        tool_calls=[CALL],
        finish_reason="tool_calls",
        model="gpt-5-2026-08-01",
        response_id="chatcmpl-x",
        tokens_in=9,
        tokens_out=4,
        tokens_reasoning=2,
    )
    [trace] = parse_line(json.dumps(_row(request, reply)).encode())
    assert isinstance(trace, TraceLine)
    row, contract = trace.rows("s", str)
    said, calls = row["output"].split("\n")
    assert (said, json.loads(calls)) == ("One moment.", [CALL])
    assert row["tool_calls"] == [CALL]
    assert (row["model"], row["served_model"]) == ("gpt-5", "gpt-5-2026-08-01")
    assert (row["response_id"], row["retries"], row["first_byte_ms"]) == ("chatcmpl-x", 1, 3.0)
    assert (row["app"], row["user_hash"], row["tags"]) == ("shop", "u", {"a": "b"})
    assert (row["tools"], row["parameters"]) == ([{"type": "function"}], {"temperature": 0})
    assert (row["route"], row["tokens_reasoning"]) == ({"rung": "frontier"}, 2)
    assert contract is None


def test_a_students_answer_has_the_summary_of_its_log_probabilities():
    reply = Reply(text="yes", token_logprobs=[-1.0, -3.0], tokens_out=2)
    logprobs = _row(_asked(), reply, producer="student")["logprobs"]
    assert logprobs == {"sum": -4.0, "min": -3.0, "p10": -2.8, "mean": -2.0}
    nonsense = Reply(text="yes", token_logprobs=[float("nan")])
    assert "logprobs" not in _row(_asked(), nonsense, producer="student")


def test_every_text_goes_through_what_hides_personal_data():
    request = _asked("I am Ann", tags={"who": "Ann"})
    call = CALL | {"function": {"name": "order", "arguments": '{"who": "Ann"}'}}
    reply = Reply(text="Hello Ann", tool_calls=[call])
    row = _row(request, reply, hide=lambda text: text.replace("Ann", "<NAME>"))
    assert "Ann" not in json.dumps(row)
    assert row["output"].startswith("Hello <NAME>\n")


def test_what_a_simulated_frontier_answers_is_marked_as_simulated():
    for model, marked in (("simulated/gpt-5", True), ("gpt-5", False), (None, False)):
        [trace] = parse_line(json.dumps(_row(_asked(), Reply(text="x", model=model))).encode())
        assert isinstance(trace, TraceLine)
        assert trace.rows("s", str)[0]["simulated"] is marked
