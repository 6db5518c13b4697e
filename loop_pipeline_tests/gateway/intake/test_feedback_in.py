"""Feedback that is handed in over HTTP."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from loop_pipeline_tests.gateway.live import Live

GOOD: dict[str, Any] = {"prompt_id": "p1", "kind": "thumb_down"}


def test_one_piece_or_a_list_is_in_the_spool_at_once(gateway: Live) -> None:
    before = dt.datetime.now(dt.UTC)
    assert gateway.post("/v1/feedback", json=GOOD).status_code == 202
    more = [
        GOOD | {"kind": "modified", "edited_output": "x"},
        GOOD | {"ts": "2026-01-01T00:00:00Z"},
    ]
    assert gateway.post("/v1/feedback", json=more).json() == {"accepted": 2}
    rows = gateway.rows()
    assert [row["kind"] for row in rows] == ["thumb_down", "modified", "thumb_down"]
    assert before <= dt.datetime.fromisoformat(rows[0]["ts"]) <= dt.datetime.now(dt.UTC)
    assert rows[2]["ts"].startswith("2026-01-01")
    assert not any("app" in row for row in rows), "without keys nothing is fenced"


def test_ids_are_those_that_clients_know(gateway: Live) -> None:
    for name in ("chatcmpl-abc", "resp_abc", "msg_abc", "abc"):
        gateway.post("/v1/feedback", json=GOOD | {"prompt_id": name})
    assert [row["prompt_id"] for row in gateway.rows()] == [
        "chatcmpl-abc",
        "resp_abc",
        "msg_abc",
        "abc",
    ]


@pytest.mark.parametrize(
    ("piece", "field"),
    [
        (GOOD | {"kind": "thumbs"}, "kind"),
        (GOOD | {"kind": "review", "value": 1, "actor": "ann"}, "kind"),
        ({"kind": "thumb_up"}, "prompt_id"),
        (GOOD | {"prompt_id": ""}, "prompt_id"),
        (GOOD | {"prompt_id": 7}, "prompt_id"),
        (GOOD | {"ts": "yesterday"}, "ts"),
        (GOOD | {"ts": "2026-01-01T00:00:00"}, "ts"),
        (GOOD | {"stars": 5}, "stars"),
        (GOOD | {"kind": "rating", "value": -1}, "value"),
        (GOOD | {"kind": "modified"}, "kind"),
    ],
)
def test_what_is_wrong_is_a_400_that_names_the_field(
    gateway: Live, piece: dict[str, Any], field: str
) -> None:
    said = gateway.post("/v1/feedback", json=piece)
    assert said.status_code == 400
    assert said.json()["error"]["param"] == field
    listed = gateway.post("/v1/feedback", json=[GOOD, piece])
    assert listed.json()["error"]["param"] == f"[1].{field}"
    assert gateway.rows() == [], "of a list all are taken, or none"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"[7]", b"\xff"])
def test_what_is_no_feedback_at_all_is_a_400(gateway: Live, body: bytes) -> None:
    assert gateway.post("/v1/feedback", data=body).status_code == 400


def test_it_is_handed_in_by_post(gateway: Live) -> None:
    assert gateway.get("/v1/feedback").status_code == 405
