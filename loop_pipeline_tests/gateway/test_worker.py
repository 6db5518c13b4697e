"""What one worker is made of, seen from outside: where texts and traces go, and what is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop_pipeline_tests.gateway.live import Live
from loop_pipeline_tests.gateway.small_policy import messages, routed_live
from loop_pipeline_tests.raw_server import RawServer
from loop_pipeline_tests.upstream import Upstream

TRACE, THEIRS = "a" * 32, "b" * 16
SECRET_WORD = "Rumpelstilzchen"


def asked(number: int, template: str = "certified", **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": messages(number, template), **more}


def test_a_distributed_trace_goes_on_to_our_own_servers_and_never_to_the_vendor(
    routed: Live, student: RawServer, frontier: Upstream
) -> None:
    given = {"traceparent": f"00-{TRACE}-{THEIRS}-01", "tracestate": "vendor=1"}
    rows = []
    for number in range(12):
        said = routed.post(json=asked(number), headers=given)
        rows.append(routed.row(said.headers["x-loop-prompt-id"])["route"])
    sent = [headers for headers in student.headers if "traceparent" in headers]
    assert {headers["tracestate"] for headers in sent} == {"vendor=1"}
    parents = {tuple(headers["traceparent"].split("-")) for headers in sent}
    assert parents == {("00", row["trace_id"], row["span_id"], "01") for row in rows}
    assert {row["trace_id"] for row in rows} == {TRACE}
    assert THEIRS not in {row["span_id"] for row in rows}
    assert frontier.asked, "escalated requests reached the vendor"
    for request in frontier.asked:
        assert not {"traceparent", "tracestate"} & set(request.headers)


@pytest.mark.parametrize(
    "wrong", ["", "00-xyz", f"ff-{TRACE}-{THEIRS}-01", f"00-{'0' * 32}-{THEIRS}-01"]
)
def test_a_trace_that_is_none_goes_nowhere(routed: Live, student: RawServer, wrong: str) -> None:
    given = {"traceparent": wrong, "tracestate": "vendor=1"}
    said = routed.post(json=asked(1), headers=given)
    assert said.status_code == 200
    assert "trace_id" not in routed.row(said.headers["x-loop-prompt-id"])["route"]
    assert not any({"traceparent", "tracestate"} & set(headers) for headers in student.headers)


def test_what_is_hidden_is_in_no_segment_and_in_no_question_to_a_student(
    tmp_path: Path, student: RawServer, frontier: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop_pipeline.gateway.asking.patience.LEAST_S", 60.0)
    home = tmp_path / "home"

    def hide(text: str, _: dict[str, str]) -> str:
        return text.replace(SECRET_WORD, "<NAME>")

    with routed_live(home, frontier.url, student.url, hide=hide) as running:
        for template in ("certified", "refused"):
            body = asked(1, template, metadata={"of": SECRET_WORD})
            body["messages"][-1]["content"] += f" for {SECRET_WORD}"
            for streamed in (False, True):
                assert running.post(json=body | {"stream": streamed}).status_code == 200
        said = {"prompt_id": "p", "kind": "modified", "edited_output": f"Dear {SECRET_WORD}"}
        assert running.post("/v1/feedback", json=said).status_code == 202
        record = {
            "id": "x",
            "status": "success",
            "call_type": "completion",
            "startTime": 1.79e9,
            "messages": [{"role": "user", "content": f"I am {SECRET_WORD}"}],
            "response": {"choices": [{"message": {"content": f"Hello {SECRET_WORD}"}}]},
        }
        assert running.post("/v1/ingest/litellm", json=record).json()["accepted"] == 1
    written = "".join(path.read_text() for path in (home / "spool").glob("*-*"))
    assert written.count("<NAME>") >= 8
    assert SECRET_WORD not in written
    questions = [body for body in student.asked if isinstance(body, dict)]
    assert questions
    assert all(body["messages"][-1]["content"].endswith("for <NAME>") for body in questions)
    # The vendor is asked what the client asks.
    assert all(SECRET_WORD in request.body.decode() for request in frontier.asked)


def test_a_worker_that_ends_closes_its_connections_to_the_page(gateway: Live) -> None:
    assert gateway.get("/").status_code == 503, "no page runs here"
    parts = gateway.worker.parts
    assert parts is not None
    assert not parts.page.closed
    gateway.stop()
    assert parts.page.closed
