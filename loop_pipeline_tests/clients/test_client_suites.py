"""Other people's clients see the same through the gateway as without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline_tests.clients.conftest import (
    HERE,
    Clients,
    Routed,
    gateway_before,
    routed_before,
)
from loop_pipeline_tests.clients.routed import SAID

pytestmark = [
    pytest.mark.clients,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    # One environment and one gateway for all of them.
    pytest.mark.xdist_group("clients"),
]
RESOURCES = (
    "chat/test_completions.py",
    "test_completions.py",
    "test_embeddings.py",
    "test_models.py",
    "test_responses.py",
)


def outcomes(junit: Path) -> dict[str, str]:
    """What became of every test of a report."""
    found = {}
    for case in ET.parse(junit).getroot().iter("testcase"):
        kinds = {part.tag for part in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}::{case.get('name')}"] = next(iter(kinds), "passed")
    return found


def run_pytest(
    clients: Clients, arguments: list[str], where: Path, out: Path, **variables: str
) -> dict[str, str]:
    """Run a suite in the clients' environment."""
    command = [str(clients.python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={out}", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        command, cwd=where, env=environment | variables, capture_output=True, text=True, check=False
    )
    assert out.exists(), (done.stdout + done.stderr)[-2000:]
    return outcomes(out)


def counted(found: dict[str, str]) -> dict[str, int]:
    """How many of each outcome."""
    return {kind: list(found.values()).count(kind) for kind in sorted(set(found.values()))}


def answered_by_students(routed: Routed) -> float:
    """How many answers were a student's so far, as the gateway counts."""
    with urllib.request.urlopen(f"{routed.url.removesuffix('/v1')}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    own = [x for x in lines if x.startswith("loop_requests_total") and 'route="student"' in x]
    return sum(float(line.rsplit(" ", 1)[1]) for line in own)


def printed(command: list[str], url: str, cwd: Path | None = None) -> dict[str, Any]:
    """What a script prints as JSON, run against a URL."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"BASE_URL": url, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_openais_own_tests_pass_as_they_do_without_the_gateway(
    clients: Clients, mock_vendor: str, tmp_path: Path, record_property: Any
) -> None:
    paths = [f"tests/api_resources/{name}" for name in RESOURCES]
    suite = ["-n0", *paths]
    source = clients.openai_source
    past = run_pytest(clients, suite, source, tmp_path / "past.xml", TEST_API_BASE_URL=mock_vendor)
    with gateway_before(f"{mock_vendor}", tmp_path / "home") as url:
        # The mock has no /v1 in its paths, the gateway has.
        through = run_pytest(clients, suite, source, tmp_path / "by.xml", TEST_API_BASE_URL=url)
    with routed_before(mock_vendor, tmp_path / "routed", "gpt-6-astra") as found:
        variables = {"TEST_API_BASE_URL": found.url}
        under = run_pytest(clients, suite, source, tmp_path / "under.xml", **variables)
    for name, outcome in {"past": past, "through": through, "with a policy": under}.items():
        record_property(name, counted(outcome))
        print(f"{name} {counted(outcome)}")
    assert counted(past)["passed"] >= 365
    assert {name: through[name] for name in past} == past
    assert {name: under[name] for name in past} == past


def test_langchains_integration_tests(
    clients: Clients, scripted: str, through: str, routed: Routed, tmp_path: Path
) -> None:
    shutil.copy(HERE / "langchain_suite.py", tmp_path / "test_langchain_suite.py")
    suite = ["--asyncio-mode=auto", "-o", "asyncio_default_test_loop_scope=session"]
    suite += ["-o", "asyncio_default_fixture_loop_scope=session", "test_langchain_suite.py"]
    past = run_pytest(clients, suite, tmp_path, tmp_path / "past.xml", BASE_URL=scripted)
    by = run_pytest(clients, suite, tmp_path, tmp_path / "by.xml", BASE_URL=through)
    asked = answered_by_students(routed)
    under = run_pytest(clients, suite, tmp_path, tmp_path / "under.xml", BASE_URL=routed.url)
    print(f"past {counted(past)}, through {counted(by)}, with a policy {counted(under)}")
    assert counted(past)["passed"] >= 35
    assert by == past
    assert under == past
    served = answered_by_students(routed) - asked
    print(f"the student answered {served:.0f}")
    assert served >= 5


def test_agents_loop_over_tools_streamed_and_not(
    clients: Clients, scripted: str, through: str, routed: Routed
) -> None:
    def seen(url: str) -> dict[str, Any]:
        return printed([str(clients.python), str(HERE / "agents_suite.py")], url)

    past = seen(scripted)
    assert len(past) == 9
    assert seen(through) == past
    # Each has tools or a system prompt: they are the frontier's, policy or none.
    assert seen(routed.url) == past


def test_three_javascript_clients(
    clients: Clients, scripted: str, through: str, routed: Routed, tmp_path: Path
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    suite = clients.node / "node_suite.mjs"
    shutil.copy(HERE / "node_suite.mjs", suite)

    def seen(url: str) -> dict[str, Any]:
        command = [node, "--test", "--test-reporter=tap", str(suite)]
        told = tmp_path / "seen.json"
        environment = os.environ | {"BASE_URL": url, "SEEN_FILE": str(told)}
        done = subprocess.run(
            command, env=environment, cwd=clients.node, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert "# pass 3" in done.stdout
        return json.loads(told.read_text())

    past = seen(scripted)
    assert seen(through) == past
    under = seen(routed.url)
    # Tools, and what may be stored, are the frontier's; what is plain text is the student's.
    assert under["openai"][2:] == past["openai"][2:]
    assert "".join(under["openai"][0]) == "".join(under["ai"][0]) == SAID
    assert under["ai"][1:] == past["ai"][1:]
    assert [(part["type"], part["text"]) for part in under["anthropic"][0]] == [("text", SAID)]
