"""With a policy in force, clients take a student's answer as they take a vendor's."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from loop_pipeline_tests.clients.conftest import HERE, Clients, Routed
from loop_pipeline_tests.clients.routed import SAID
from loop_pipeline_tests.clients.scripted_upstream import WORDS
from loop_pipeline_tests.clients.test_client_suites import printed

pytestmark = [
    pytest.mark.clients,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("clients"),
]
FRONTIER = "".join(WORDS)
# Of one request, whole and streamed: who answers, and what.
ROUTES = {
    "plain": ("student", SAID),
    "auto": ("student", SAID),
    "unsure": ("escalated", FRONTIER),
    "schema": ("escalated", '{"city": "three"}'),
    "system": ("frontier", FRONTIER),
    "n": ("frontier", FRONTIER),
}


def test_python_clients_put_the_students_answer_together(clients: Clients, routed: Routed) -> None:
    seen = printed([str(clients.python), str(HERE / "routed_suite.py")], routed.url)
    expected: dict[str, Any] = {}
    for name, (route, text) in ROUTES.items():
        tokens, mark = (15, f"loop-{routed.adapter}") if route == "student" else (18, None)
        base = [route, "chatcmpl-", text, ["stop"]]
        expected[f"openai {name}"] = [*base, [tokens], mark]
        expected[f"openai {name} streamed"] = [*base, [], mark]
        expected[f"openai {name} streamed usage"] = [*base, [tokens], mark]
    expected |= {
        "openai helper": SAID,
        "async openai": ["chatcmpl-", SAID, ["stop"]],
        "responses": SAID,
        "responses streamed": SAID,
        "responses stored": FRONTIER,
        "langchain": [SAID, 15, "lc_"],
        "langchain streamed": [SAID, 15],
        "anthropic": [SAID, "end_turn", 6],
        "anthropic streamed": [SAID, "end_turn", 6],
    }
    assert seen == expected


def test_javascript_clients_put_the_students_answer_together(
    clients: Clients, routed: Routed
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = clients.node / "routed_suite.mjs"
    shutil.copy(HERE / script.name, script)
    assert printed([node, str(script)], routed.url, clients.node) == {
        "openai": ["chatcmpl-", SAID, 15],
        "openai streamed": ["chatcmpl-", SAID, "stop", 15],
        "openai helper": SAID,
        "ai": [SAID, "stop", 15],
        "ai streamed": [SAID, "stop"],
        "anthropic": [SAID, "end_turn", 6],
        "anthropic streamed": [SAID, "end_turn"],
    }
