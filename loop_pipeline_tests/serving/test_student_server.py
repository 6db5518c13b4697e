import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop_pipeline.serving.ask_many import answer_all
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import Reconciled, StudentServer
from loop_pipeline_tests.raw_server import RawServer, reply, saying
from loop_pipeline_tests.serving.stub import Stub


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_an_answer_carries_text_tokens_and_what_the_router_needs(stub: Stub) -> None:
    answer = StudentServer(stub.url, max_tokens=8).answer("base", say("cash please"))
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("CASH PLEASE", 7, 3)
    assert answer.token_logprobs == pytest.approx([-0.1, -0.2, -0.3])
    assert answer.logprob_min == pytest.approx(-0.3)
    assert answer.logprob_sum == pytest.approx(-0.6)
    assert answer.logprob_mean == pytest.approx(-0.2)
    assert answer.logprob_p10 == pytest.approx(np.quantile([-0.1, -0.2, -0.3], 0.1))
    sent = stub.asked[-1][1]
    assert (sent["temperature"], sent["logprobs"], sent["max_tokens"]) == (0, True, 8)


def test_adapters_are_reconciled_once_and_the_base_stays(stub: Stub) -> None:
    server = StudentServer(stub.url)
    stub.adapters = {"old": "/a/old", "student-1": "/a/1"}
    wanted = {"student-2": "/a/2", "student-1": "/a/1"}
    assert server.reconcile(wanted) == Reconciled(["student-2"], ["student-1"], ["old"])
    assert server.models() == {"base": None, "student-1": "base", "student-2": "base"}
    asked = len(stub.asked)
    assert server.reconcile(wanted) == Reconciled([], ["student-1", "student-2"], [])
    assert len(stub.asked) == asked, "the second time, nothing is changed on the server"
    assert [path for path, _ in stub.asked] == [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
    ], "the new adapter is there before the old one goes"
    assert server.reconcile({}).unloaded == ["student-1", "student-2"]
    assert server.models() == {"base": None}


def test_another_folder_under_the_same_name_is_replaced_in_place(stub: Stub) -> None:
    server = StudentServer(stub.url)
    assert server.load("student-1", "/a/1")
    assert not server.load("student-1", "/a/1")
    assert server.load("student-1", "/a/1-again")
    assert stub.adapters == {"student-1": "/a/1-again"}
    assert "/v1/unload_lora_adapter" not in [path for path, _ in stub.asked]


def test_losing_a_race_for_the_same_adapter_is_no_error(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.adapters = {"student-1": "/a/1"}
    monkeypatch.setattr(StudentServer, "_cards", lambda self: [])
    assert StudentServer(stub.url).load("student-1", "/a/1")
    assert stub.adapters == {"student-1": "/a/1"}


def test_a_refused_adapter_is_named_with_the_servers_words(stub: Stub) -> None:
    with pytest.raises(ServerError, match=r"'student-9'.*HTTP 400.*rank 64 is greater") as caught:
        StudentServer(stub.url).load("student-9", "/a/broken")
    assert stub.url in str(caught.value)
    with pytest.raises(ServerError, match="base model, not a name"):
        StudentServer(stub.url).load("base", "/a/1")


def test_what_is_gone_is_unloaded_without_complaint(stub: Stub) -> None:
    assert StudentServer(stub.url).unload("never-there") is False


def test_order_is_kept_and_requests_overlap(stub: Stub) -> None:
    seen: list[tuple[int, int]] = []
    answers = answer_all(
        StudentServer(stub.url),
        "base",
        [say(f"word{i}") for i in range(60)],
        concurrency=8,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert [a.text for a in answers] == [f"WORD{i}" for i in range(60)]
    assert 2 <= stub.most_busy <= 8
    assert seen[-1] == (60, 60)


def test_a_dropped_connection_is_asked_again_once(stub: Stub) -> None:
    server = StudentServer(stub.url)
    stub.drop = 1
    assert server.answer("base", say("hi")).text == "HI"
    stub.drop = 2
    with pytest.raises(ServerError, match="the connection broke"):
        server.answer("base", say("hi"))
    assert server.answer("base", say("hi")).text == "HI"


def test_an_unknown_model_stops_the_batch(stub: Stub) -> None:
    batch = [say("x")] * 500
    with pytest.raises(ServerError, match=r"'student-x'.*404.*does not exist"):
        answer_all(StudentServer(stub.url), "student-x", batch, concurrency=4)
    assert len(stub.asked) < 100, "the rest is not asked any more"


def test_a_request_beyond_the_context_is_an_empty_and_unsure_answer(stub: Stub) -> None:
    answer = StudentServer(stub.url).answer("base", say("x" * 2000))
    assert (answer.text, answer.finish_reason) == ("", "too_long")
    assert answer.logprob_sum == answer.logprob_min == answer.logprob_p10 == -100
    assert math.isfinite(answer.logprob_mean)


def test_any_other_refusal_is_an_error_with_the_end_of_the_log(stub: Stub, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("\n".join(f"line {i}" for i in range(100)) + "\nEngineCore died: out of memory")
    stub.fail = (500, "EngineDeadError")
    server = StudentServer(stub.url, log_path=log)
    with pytest.raises(ServerError) as caught:
        server.answer("base", say("x"))
    assert "EngineDeadError" in str(caught.value)
    assert "EngineCore died: out of memory" in str(caught.value)
    assert "line 3\n" not in str(caught.value)


def test_a_server_without_logprobs_is_found_out(stub: Stub) -> None:
    stub.reply = {"choices": [{"message": {"content": "x"}, "logprobs": None}], "usage": {}}
    with pytest.raises(ServerError, match="is it a vLLM server with log-probabilities"):
        StudentServer(stub.url).answer("base", say("x"))


def test_a_dead_server_is_a_clear_error(stub: Stub) -> None:
    url = stub.url
    stub.stop()
    with pytest.raises(ServerError, match="nothing listens there") as caught:
        StudentServer(url).answer("base", say("x"))
    assert url in str(caught.value)
    with pytest.raises(ServerError, match="not ready after 1 s"):
        StudentServer(url).wait_ready(1)


def _choice(**changes: Any) -> dict[str, Any]:
    plain = {
        "message": {"content": "delivery"},
        "logprobs": {"content": [{"logprob": -0.5}]},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    return {"choices": [plain | changes], "usage": usage | changes.get("usage", {})}


@pytest.mark.parametrize(
    ("nonsense", "reason"),
    [
        (_choice(logprobs={"content": [{"logprob": 5.0}]}), "a log-probability is 5.0"),
        (_choice(logprobs={"content": [{"logprob": float("nan")}]}), "a log-probability is nan"),
        (_choice(logprobs={"content": [{"logprob": "-1"}]}), "a log-probability is '-1'"),
        (_choice(logprobs={"content": [{"logprob": True}]}), "a log-probability is True"),
        (_choice(logprobs={"content": [{}]}), "lacks KeyError"),
        (_choice(message={"content": [{"type": "text", "text": "x"}]}), "its content is list"),
        (_choice(message={"content": 3}), "its content is int"),
        (_choice(message=None), "lacks TypeError"),
        (_choice(finish_reason=["stop"]), "not a text"),
        (_choice(usage={"completion_tokens": "many"}), "its token counts are"),
        (_choice(usage={"prompt_tokens": -1}), "its token counts are"),
        ({"choices": []}, "lacks"),
        ({"choices": {}}, "lacks"),
        ({"usage": None, "choices": None}, "lacks"),
    ],
)
def test_an_answer_that_no_vllm_gives_is_refused_with_its_reason(
    stub: Stub, nonsense: dict[str, Any], reason: str
) -> None:
    stub.reply = nonsense
    with pytest.raises(ServerError, match=re.escape(reason)) as caught:
        StudentServer(stub.url).answer("base", say("x"))
    assert stub.url in str(caught.value)


def test_a_probability_of_one_may_be_rounded_up(stub: Stub) -> None:
    stub.reply = _choice(logprobs={"content": [{"logprob": 1e-7}]})
    assert StudentServer(stub.url).answer("base", say("x")).token_logprobs == [0.0]


@pytest.mark.parametrize(
    "said",
    [
        reply(b"<html>Login</html>", kind="text/html"),
        reply(b"[]"),
        reply(b"3"),
        reply(b'{"data": null}'),
        reply(b'{"data": [3]}'),
        reply(b'{"data": [{}]}'),
        reply(b'{"data": [{"id": 5}]}'),
        reply(b'{"data": [{"id": "a", "root": 5}]}'),
        reply(b'{"data": [{"id": "a", "parent": []}]}'),
        reply(b'{"models": []}'),
        reply(b"[" * 100_000),
        reply(b"{"),
    ],
)
def test_a_list_of_models_that_is_none_names_the_server(said: bytes) -> None:
    server = RawServer(saying(said))
    for ask in (
        StudentServer(server.url).models,
        lambda: StudentServer(server.url).load("a", "/a"),
        lambda: StudentServer(server.url).check_base("/models/base"),
    ):
        with pytest.raises(ServerError, match=server.url):
            ask()
    server.stop()


def test_a_list_without_a_base_is_refused() -> None:
    server = RawServer(saying(reply(b'{"data": [{"id": "a", "parent": "b"}]}')))
    with pytest.raises(ServerError, match="names no base model"):
        StudentServer(server.url).check_base("/models/base")
    server.stop()


def test_a_byte_now_and_then_does_not_keep_it_waiting() -> None:
    server = RawServer(saying(b""))
    server.script = server.drip(reply(b" " * 1000))
    with pytest.raises(ServerError, match="no answer in time"):
        StudentServer(server.url, timeout=0.4).answer("base", say("x"))
    server.stop()
