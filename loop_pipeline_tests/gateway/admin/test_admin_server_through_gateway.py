"""One request followed by hand: sent to a real worker, found on the page, judged there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from loop_pipeline.gateway.admin.admin_server import AdminServer
from loop_pipeline.gateway.admin.figures.live_bill import Rent
from loop_pipeline.gateway.admin.live_view import LiveView
from loop_pipeline.gateway.http.page_proxy import SOCKET
from loop_pipeline.store.database import open_store
from loop_pipeline_tests.gateway.live import ASKED, Live, wait_for


@pytest.fixture
def page(gateway: Live) -> Iterator[AdminServer]:
    home = Path(gateway.config.home)

    def engine() -> Engine:
        return open_store(f"sqlite:///{home / 'loop.db'}")

    server = AdminServer(home / "gateway" / SOCKET, LiveView(home, engine, Rent(1.4, 1)))
    server.start()
    wait_for(lambda: server.started)
    yield server
    server.stop()


def test_a_request_is_on_the_page_at_once_and_can_be_judged(gateway: Live, page) -> None:
    assert gateway.get("/").headers["content-security-policy"].startswith("default-src 'none'")
    assert gateway.get("/page/page.js").status_code == 200
    assert gateway.get("/page/numbers.json").json()["newest"] == []
    prompt_id = gateway.post().headers["x-loop-prompt-id"]
    wait_for(lambda: gateway.get("/page/numbers.json").json()["newest"])
    found = gateway.get("/page/numbers.json").json()
    [row] = found["newest"]
    assert (row["prompt_id"], row["text"], row["lane"]) == (
        prompt_id,
        "where is my order?",
        "frontier",
    )
    assert found["today"]["requests"] == 1
    one = gateway.get(f"/page/requests/{prompt_id}").json()
    assert [turn["text"] for turn in one["conversation"]] == [
        m["content"] for m in ASKED["messages"]
    ]
    assert one["decision"][0] == "The frontier answered; no student was asked first."
    # Nobody but the gateway says who is looking.
    said = {"prompt_id": prompt_id, "kind": "thumb_down"}
    reply = gateway.post("/page/feedback", json=said, headers={"x-loop-actor": "mallory"})
    assert reply.status_code == 202
    [vote] = [row for row in gateway.rows() if "messages" not in row]
    assert (vote["prompt_id"], vote["kind"], vote["actor"]) == (
        prompt_id,
        "thumb_down",
        "anybody here",
    )
    again = gateway.get(f"/page/requests/{prompt_id}").json()
    assert [f["kind"] for f in again["feedback"]] == ["thumb_down"]


def test_a_page_of_another_site_gets_nothing(gateway: Live, page) -> None:
    assert gateway.get("/", headers={"host": "evil.example"}).status_code == 403
    body = json.dumps({"prompt_id": "p", "kind": "thumb_up"})
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/json", "origin": "https://evil.example"},
        {"content-type": "application/json", "sec-fetch-site": "cross-site"},
    ):
        assert gateway.post("/page/feedback", data=body, headers=headers).status_code == 403
    assert gateway.rows() == []


def test_an_engine_that_cannot_connect_leaves_the_page_with_the_spool(tmp_path: Path) -> None:
    engine = create_engine("sqlite:////proc/nothing/here.db")
    found = LiveView(tmp_path, lambda: engine, Rent(1.0, 1)).numbers("alice")
    assert "only the spool is shown" in found.problems[0]
