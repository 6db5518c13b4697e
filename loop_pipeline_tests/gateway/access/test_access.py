"""Who may call, and what for."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline_tests.gateway.live import ASKED, Live, live, wait_for
from loop_pipeline_tests.upstream import Script, Upstream, failure


def key(name: str, *roles: str, app: str = "desk", **more: Any) -> dict[str, Any]:
    return {
        "sha256": sha256(f"lk_{name}".encode()).hexdigest(),
        "name": name,
        "app": app,
        "roles": list(roles),
        "limits": {},
        "expires_at": None,
    } | more


def put(home: Path, *keys: dict[str, Any], required: bool = True) -> None:
    folder = home / "gateway"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part"
    part.write_text(json.dumps({"required": required, "keys": list(keys)}))
    part.replace(folder / "keys.json")


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer lk_{name}"}


def test_without_keys_this_machine_may_do_everything(gateway: Live) -> None:
    assert gateway.post().status_code == 200
    assert gateway.post(headers=bearer("of anything")).status_code == 200


def test_with_keys_one_is_needed_however_a_client_sends_it(
    tmp_path: Path, upstream: Upstream
) -> None:
    put(tmp_path, key("a", "call"), key("old", "call", expires_at=1.0))
    with live(tmp_path, upstream.url) as gateway:
        assert gateway.post(headers=bearer("a")).status_code == 200
        assert gateway.post(headers={"x-api-key": "lk_a"}).status_code == 200
        assert gateway.post(headers={"api-key": "lk_a"}).status_code == 200
        for headers in ({}, bearer("b"), {"authorization": "lk_a"}, {"authorization": "Basic !"}):
            said = gateway.post(headers=headers)
            assert said.status_code == 401
            assert said.json()["error"]["code"] == "loop_key_unknown"
        said = gateway.post("/v1/messages", headers=bearer("old"), json=ASKED | {"max_tokens": 1})
        assert (said.status_code, said.json()["type"]) == (401, "error")
        assert "loop_key_expired" in said.text
        assert gateway.get("/v1/anything").status_code == 401
        assert gateway.get("/health/ready").status_code == 200
    assert len(upstream.asked) == 3


def test_a_key_does_what_its_roles_say(tmp_path: Path, upstream: Upstream) -> None:
    put(tmp_path, key("a", "feedback"), key("c", "call"))
    piece = {"prompt_id": "x", "kind": "thumb_up"}
    with live(tmp_path, upstream.url) as gateway:
        said = gateway.post(headers=bearer("a"))
        assert (said.status_code, said.json()["error"]["code"]) == (403, "loop_role")
        assert gateway.post("/v1/feedback", json=piece, headers=bearer("a")).status_code == 202
        assert gateway.post("/v1/feedback", json=piece, headers=bearer("c")).status_code == 403
        assert gateway.post("/v1/ingest/litellm", json=[], headers=bearer("c")).status_code == 403
        assert gateway.get("/", headers=bearer("c")).status_code == 403
    assert upstream.asked == []


def test_a_key_that_is_revoked_or_added_counts_within_a_second_or_two(
    tmp_path: Path, upstream: Upstream
) -> None:
    put(tmp_path, key("a", "call"))
    with live(tmp_path, upstream.url) as gateway:
        assert gateway.post(headers=bearer("a")).status_code == 200
        put(tmp_path, key("b", "call"))
        wait_for(lambda: gateway.post(headers=bearer("a")).status_code == 401, 5)
        assert gateway.post(headers=bearer("b")).status_code == 200
        put(tmp_path)
        wait_for(lambda: gateway.post(headers=bearer("b")).status_code == 401, 5)
        (tmp_path / "gateway" / "keys.json").write_text("{")
        put(tmp_path, key("b", "call"))
        wait_for(lambda: gateway.post(headers=bearer("b")).status_code == 200, 5)


def test_traces_and_feedback_are_of_the_keys_app(tmp_path: Path, upstream: Upstream) -> None:
    put(tmp_path, key("a", "call", "feedback", app="desk"))
    with live(tmp_path, upstream.url) as gateway:
        gateway.post(headers=bearer("a"))
        piece = {"prompt_id": "x", "kind": "thumb_up", "app": "another"}
        gateway.post("/v1/feedback", json=piece, headers=bearer("a"))
        assert [row["app"] for row in gateway.rows()] == ["desk", "desk"]


def test_keys_and_bodies_are_in_no_file_and_no_log(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    put(tmp_path, key("planted-key", "call", "feedback"))
    upstream.then(failure(500), Script(silent=True, end="reset"), Script(silent=True, end="reset"))
    with live(tmp_path, upstream.url) as gateway:
        for body in (ASKED, ASKED, ASKED, {"planted-field": 1}, {"messages": "planted-text"}):
            gateway.post(headers=bearer("planted-key"), json=body)
        gateway.post(headers=bearer("planted-key"), data=b"planted-text")
        gateway.post("/v1/feedback", headers=bearer("planted-key"), json={"kind": "planted-kind"})
        metrics = gateway.get("/metrics").text
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    texts = files.decode().replace('"name": "planted-key"', "") + caplog.text + metrics
    for word in ("lk_planted", "sk-vendor", "planted-field", "planted-text", "planted-kind"):
        assert word not in texts
    assert "where is my order" not in caplog.text


def test_passed_through_keys_go_to_the_frontier_and_ours_do_not(
    tmp_path: Path, upstream: Upstream
) -> None:
    put(tmp_path, key("ours", "call"))
    with live(tmp_path, upstream.url, auth="passthrough") as gateway:
        gateway.post(headers={"authorization": "Bearer sk-mine"})
        gateway.post(headers=bearer("ours"))
        upstream.then(failure(401))
        assert gateway.post().status_code == 401
        seen = [asked.headers.get("authorization") for asked in upstream.asked]
        assert seen == ["Bearer sk-mine", "Bearer sk-vendor-planted", None]
        files = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert b"sk-mine" not in files


def test_only_keys_that_the_frontier_accepted_may_give_feedback(
    tmp_path: Path, upstream: Upstream
) -> None:
    piece = {"prompt_id": "x", "kind": "thumb_up"}
    mine = {"authorization": "Bearer sk-mine"}
    with live(tmp_path, upstream.url, auth="passthrough") as gateway:
        assert gateway.post("/v1/feedback", json=piece, headers=mine).status_code == 403
        upstream.then(failure(401))
        gateway.post(headers=mine)
        assert gateway.post("/v1/feedback", json=piece, headers=mine).status_code == 403
        gateway.post(headers=mine)
        assert gateway.post("/v1/feedback", json=piece, headers=mine).status_code == 202


def test_a_browser_shows_its_key_as_a_password(tmp_path: Path, upstream: Upstream) -> None:
    put(tmp_path, key("boss", "admin"))
    basic = base64.b64encode(b"me:lk_boss").decode()
    with live(tmp_path, upstream.url) as gateway:
        asks = gateway.get("/")
        assert (asks.status_code, "Basic" in asks.headers["www-authenticate"]) == (401, True)
        said = gateway.get("/", headers={"authorization": f"Basic {basic}"})
        assert said.status_code == 503, "let in, but the page does not run here"
