"""A student sees placeholders, a client gets the values, and the disk gets the placeholders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from loop_pipeline.gateway.asking.hidden_values import given_back, hidden, not_to_be_given
from loop_pipeline_tests.gateway.small_policy import messages, routed_live
from loop_pipeline_tests.gateway.test_cascade import sure
from loop_pipeline_tests.raw_server import RawServer
from loop_pipeline_tests.upstream import Upstream

ANN, BOB = "ann@example.com", "bob@example.com"
TEXT = {"kind": "text"}
JSON = {"kind": "json", "schema": {"type": "object"}}


def hide(text: str, values: dict[str, str]) -> str:
    """Hides mail addresses and what stands in brackets, each under its own number."""

    def name_of(found: re.Match[str]) -> str:
        for name, value in values.items():
            if value == found[0]:
                return name
        name = f"<EMAIL_{len(values) + 1}>"
        values[name] = found[0]
        return name

    return re.sub(r"[\w.]+@[\w.]+\w|\[[^\]]*\]", name_of, text)


def test_the_texts_of_a_request_share_their_placeholders() -> None:
    values: dict[str, str] = {}
    turns = [{"content": f"from {ANN}"}, {"content": f"to {BOB}, not {ANN}"}]
    assert hidden(turns, hide, values) == [
        {"content": "from <EMAIL_1>"},
        {"content": "to <EMAIL_2>, not <EMAIL_1>"},
    ]
    assert (
        given_back("<EMAIL_2> or <EMAIL_1> or <EMAIL_7>", values) == f"{BOB} or {ANN} or <EMAIL_7>"
    )


def test_five_hundred_values_come_back_each_in_its_place() -> None:
    values: dict[str, str] = {}
    text = " ".join(f"user{number}@example.com" for number in range(500))
    assert "@" not in hide(text, values)
    assert given_back(hide(text, values), values) == text


@pytest.mark.parametrize(
    ("answer", "contract", "why"),
    [
        ("write to <EMAIL_1>", TEXT, None),
        ("write to <EMAIL_2>", TEXT, "it holds <EMAIL_2>, which the request does not"),
        ("as in <PART_9>", TEXT, None),
        ('{"to": "<EMAIL_1>"}', JSON, None),
    ],
)
def test_a_placeholder_that_was_not_asked_with_does_not_go_out(
    answer: str, contract: dict[str, str], why: str | None
) -> None:
    said = not_to_be_given(
        answer,
        {"<EMAIL_1>": ANN},
        asked="see <PART_9>, from <EMAIL_1>",
        raw=f"see <PART_9>, from {ANN}",
        contract=contract,
    )
    assert said == why
    assert not_to_be_given(answer, None, asked="", raw="", contract=contract) is None


def test_a_value_that_ends_a_json_string_does_not_go_out() -> None:
    said = not_to_be_given(
        '{"to": "<EMAIL_1>"}', {"<EMAIL_1>": 'a"b'}, asked="<EMAIL_1>", raw='a"b', contract=JSON
    )
    assert said is not None
    assert said.startswith("with the values of the request")


def test_through_a_worker_the_client_gets_values_and_the_disk_placeholders(
    tmp_path: Path, student: RawServer, frontier: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop_pipeline.gateway.asking.patience.LEAST_S", 60.0)
    turns = messages(3, "certified")
    turns[-1]["content"] += f" {ANN}"
    served: set[bool] = set()
    with routed_live(tmp_path / "home", frontier.url, student.url, hide=hide) as running:
        for answer, reason in (("Ask <EMAIL_1>", None), ("Ask <EMAIL_2>", "it holds <EMAIL_2>")):
            student.script = sure(answer)
            for streamed in (False, True):
                body = {"model": "auto", "messages": turns, "stream": streamed}
                reply = running.post(json=body)
                row = running.row(reply.headers["x-loop-prompt-id"])
                assert ANN not in json.dumps(row)
                assert row["messages"][-1]["content"].endswith("<EMAIL_1>")
                served.add(reply.headers["x-loop-route"] == "student")
                if reason is None:
                    assert f"Ask {ANN}" in reply.text
                    assert row["output"] == "Ask <EMAIL_1>"
                else:
                    assert "<EMAIL_" not in reply.text
                    assert reason in row["route"]["settled"]
    assert served == {True, False}
    assert all(ANN not in json.dumps(body) for body in student.asked)
