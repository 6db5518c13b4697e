"""The routes, and the OpenAPI document that says what they answer: neither has more than the other.

What the document says of bodies is held against the gateway by ``clients/test_any_input.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from jsonschema import Draft202012Validator
from starlette.routing import BaseRoute, Match, Route

import loop_pipeline.gateway.app as app_module
from loop_pipeline.gateway.admin.admin_server import admin_app
from loop_pipeline.gateway.app import make_app
from loop_pipeline.traces.records import Feedback, FeedbackKind
from loop_pipeline_tests.gateway.live import Live

DOCUMENT: dict[str, Any] = json.loads(
    Path(app_module.__file__).with_name("openapi.json").read_text("utf-8")
)
# What a vendor answers, and what a browser gets.
NOT_OURS = {"/v1/{path:path}", "/", "/page/{path:path}", "/page/{name}"}


def routes_of(gateway: Live) -> tuple[Sequence[BaseRoute], Sequence[BaseRoute]]:
    """Of a worker, and of the page behind it."""
    parts = gateway.worker.parts
    assert parts is not None
    return make_app(parts).routes, admin_app(cast("Any", None)).routes


def first(routes: Sequence[BaseRoute], method: str, path: str) -> str:
    """The path of the route that answers."""
    scope = {"type": "http", "method": method, "path": path}
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is Match.FULL:
            return route.path
    return ""


def test_every_route_is_in_the_document_and_every_operation_has_a_route(gateway: Live) -> None:
    worker, page = routes_of(gateway)
    listed = {
        route.path.replace(":path}", "}")
        for route in [*worker, *page]
        if isinstance(route, Route) and route.path not in NOT_OURS
    }
    assert listed == set(DOCUMENT["paths"])
    for path, operations in DOCUMENT["paths"].items():
        asked = path.replace("{prompt_id}", "p1")
        for method in operations:
            routes = page if path.startswith("/page/") else worker
            found = first(routes, method.upper(), asked).replace(":path}", "}")
            assert found == path, f"{method} {path}"


def test_feedback_is_described_as_it_is_read() -> None:
    described = DOCUMENT["components"]["schemas"]["Feedback"]
    assert set(described["properties"]) == set(Feedback.model_fields)
    assert described["properties"]["kind"]["enum"] == list(get_args(FeedbackKind))


def valid(name: str, value: Any) -> None:
    """Raises if a value is not as the document says."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


def test_answers_and_their_headers_are_as_the_document_says(gateway: Live) -> None:
    asked = gateway.post()
    valid("ChatCompletion", asked.json())
    chat = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]
    told = {name for name in asked.headers if name.startswith("x-loop-")}
    assert told == set(chat["headers"]) - {"x-loop-policy"}  # there is none here
    valid("Models", gateway.get("/v1/models").json())
    valid("Model", gateway.get("/v1/models/auto").json())
    valid("Ready", gateway.get("/health/ready").json())


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", b"no JSON", "Error"),
        ("/v1/messages", b"no JSON", "AnthropicError"),
        ("/v1/responses", b"[]", "Error"),
        ("/v1/completions", b"", "Error"),
        ("/v1/feedback", b'{"kind": "x"}', "Error"),
        ("/v1/ingest/litellm", b"{", "Error"),
    ],
)
def test_errors_are_as_the_document_says(gateway: Live, path: str, body: bytes, name: str) -> None:
    answer = gateway.post(path, data=body)
    assert answer.status_code == 400
    valid(name, answer.json())
