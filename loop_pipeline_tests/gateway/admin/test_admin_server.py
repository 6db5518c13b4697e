"""Who is let in, what the page's server answers, and what it writes."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from loop_pipeline.gateway.admin.admin_server import FILES, AdminServer, admin_app
from loop_pipeline.gateway.admin.figures.live_bill import Rent
from loop_pipeline.gateway.admin.live_view import LiveView
from loop_pipeline.gateway.segments import sealed
from loop_pipeline.traces.importers.jsonl import read_jsonl
from loop_pipeline.traces.records import Feedback
from loop_pipeline_tests.gateway.admin.live_store import beside, line, spool, store

NOW = dt.datetime.now(dt.UTC)
ALICE = {"x-loop-actor": "alice"}
JSON = {"content-type": "application/json"}
PAGES = [
    "/",
    "/page/numbers.json",
    "/page/numbers.schema.json",
    "/page/requests/x",
    *(f"/page/{name}" for name in FILES),
]


@pytest.fixture
def view(engine: Engine, tmp_path: Path) -> LiveView:
    return LiveView(tmp_path / "page", lambda: engine, Rent(hourly_usd=1.0, servers=1))


@pytest.fixture
def client(view: LiveView) -> Iterator[TestClient]:
    with TestClient(admin_app(view), base_url="http://gateway.example") as opened:
        yield opened


@pytest.mark.parametrize("path", PAGES)
def test_whom_the_gateway_did_not_let_in_gets_nothing(client, path):
    for headers in ({}, {"x-loop-actor": ""}):
        reply = client.get(path, headers=headers)
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] == "loop_page"


def test_every_answer_forbids_foreign_content(client):
    for path in PAGES:
        reply = client.get(path, headers=ALICE)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_nobody_else():
    for name in ("page.html", *FILES):
        text = (Path(admin_app.__code__.co_filename).parent / "browser" / name).read_text("utf-8")
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert "innerHTML" not in text


def test_the_figures_are_those_that_their_schema_names(client):
    schema = client.get("/page/numbers.schema.json", headers=ALICE).json()
    found = client.get("/page/numbers.json", headers=ALICE).json()
    assert set(found) == set(schema["properties"])
    bill = schema["$defs"]["BillNumbers"]["properties"]
    assert "estimated" in bill["all_frontier_usd"]["description"].lower()


def test_no_path_leads_out_of_the_page(client):
    for path in ("/page/../admin_server.py", "/page/%2e%2e%2fadmin_server.py", "/page/page.html"):
        assert client.get(path, headers=ALICE).status_code in (403, 404)


def test_an_unknown_request_is_not_found(client):
    reply = client.get("/page/requests/nothing", headers=ALICE)
    assert reply.status_code == 404
    assert "nothing" in reply.json()["error"]["message"]


def test_a_request_is_read_from_the_spool_and_then_from_the_store(client, view, engine):
    main = line("a/b c", NOW, "student", route={"shadow": True})
    rows = [main, beside(main, "refund")]
    segment = spool(view._spool, rows)
    pending = client.get("/page/requests/a%2Fb%20c", headers=ALICE).json()
    segment.path.unlink()
    store(engine, rows)
    view._looked = 0.0
    stored = client.get("/page/requests/a%2Fb%20c", headers=ALICE).json()
    for found in (pending, stored):
        assert [turn["role"] for turn in found["conversation"]] == ["system", "user"]
        assert [(o["producer"], o["agrees"]) for o in found["others"]] == [("frontier", False)]
        assert (
            "Confidence in the answer: 0.970; at least 0.900 is needed: enough."
            in (found["decision"])
        )
    assert pending == stored


def test_a_vote_is_a_line_that_the_shipper_can_read(client, view):
    said = {"prompt_id": "p", "kind": "modified", "edited_output": "better", "actor": "mallory"}
    reply = client.post("/page/feedback", json=said, headers=ALICE)
    assert reply.status_code == 202
    [path] = sealed(view._spool)
    [(_, record)] = list(read_jsonl(path))
    assert isinstance(record, Feedback)
    assert (record.prompt_id, record.kind, record.actor) == ("p", "modified", "alice")
    assert record.edited_output == "better"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"kind": "thumb_up"}', "prompt_id"),
        (b'{"prompt_id": 1, "kind": "thumb_up"}', "prompt_id"),
        (b'{"prompt_id": "p", "kind": "review"}', "kind"),
        (b'{"prompt_id": "p", "kind": ["x"]}', "kind"),
        (b'{"prompt_id": "p", "kind": "modified", "edited_output": " "}', "edited_output"),
        (b'{"prompt_id": "p", "kind": "modified", "edited_output": 3}', "edited_output"),
        (b'"' + b"x" * (2 * 1024**2) + b'"', "bytes"),
    ],
)
def test_wrong_feedback_is_refused_with_its_field(client, view, body, field):
    reply = client.post("/page/feedback", content=body, headers=ALICE | JSON)
    assert reply.status_code == 400
    assert field in reply.json()["error"]["message"]
    assert sealed(view._spool) == []


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, JSON | {"sec-fetch-site": "cross-site"}, {}],
)
def test_a_foreign_page_cannot_vote_with_the_viewers_browser(client, view, headers):
    body = json.dumps({"prompt_id": "p", "kind": "thumb_up"}).encode()
    assert client.post("/page/feedback", content=body, headers=ALICE | headers).status_code == 403
    assert sealed(view._spool) == []


async def _over_the_socket(path: Path) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(str(path))
    async with (
        aiohttp.ClientSession(connector=connector, headers=ALICE) as session,
        session.get("http://page/page/numbers.json") as reply,
    ):
        return reply.status, await reply.json()


def test_it_serves_on_a_socket_of_its_own_and_takes_it_away_again(view, tmp_path):
    path = tmp_path / "s" / "admin.sock"
    server = AdminServer(path, view)
    server.start()
    while not server.started:
        time.sleep(0.01)
    status, found = asyncio.run(_over_the_socket(path))
    assert (status, found["viewer"]) == (200, "alice")
    server.stop()
    assert not path.exists()
