"""No client takes a broken stream as a whole answer, if the gateway stands before its vendor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline_tests.clients.conftest import HERE, Clients, gateway_before
from loop_pipeline_tests.upstream import (
    EVENT_STREAM,
    JSON,
    Asked,
    Script,
    Upstream,
    chunk,
    completion,
    events,
    failure,
)

pytestmark = [
    pytest.mark.clients,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("clients"),
]
BEGUN = [chunk({"role": "assistant", "content": ""}), chunk({"content": "deli"})]
ERROR = b'data: {"error": {"message": "it fell over", "type": "server_error", "code": null}}\n\n'
# Longer than the gateway waits before its first comment.
SLOW_S = 22.0
BROKEN = {
    "ends early but cleanly": Script(headers=EVENT_STREAM, parts=BEGUN),
    "is cut": Script(headers=EVENT_STREAM, parts=BEGUN, end="cut"),
    "is reset": Script(headers=EVENT_STREAM, parts=BEGUN, end="reset"),
    "is cut inside an event": Script(
        headers=EVENT_STREAM, parts=[*BEGUN, chunk({"content": "very"})[:40]], end="cut"
    ),
    "says an error": Script(headers=EVENT_STREAM, parts=[*BEGUN, ERROR]),
    "fails before it begins": failure(500),
    "is cut before its first event": Script(headers=EVENT_STREAM, end="cut"),
    "fails after a long time": Script(
        500, JSON, failure(500).parts, first_after=SLOW_S, close=True
    ),
}
GOOD = {
    "comes well": Script(headers=EVENT_STREAM, parts=events("deli", "very")),
    "comes after a long time": Script(
        headers=EVENT_STREAM, parts=events("deli", "very"), first_after=SLOW_S
    ),
    "stops for a long time": Script(
        headers=EVENT_STREAM, parts=events("deli", "very"), pause=SLOW_S / 4
    ),
}
SCRIPTS = BROKEN | GOOD
ENDLESS = Script(headers=EVENT_STREAM, parts=[*BEGUN, *[chunk({"content": "x"})] * 900], pause=0.2)


def vendor(asked: Asked) -> Script:
    """Goes wrong as the last message says; what is not asked as a stream, only where it can."""
    if asked.method == "GET":
        return Script(headers=JSON, parts=[b'{"object": "list", "data": []}'])
    body = asked.json()
    case = body["messages"][-1]["content"]
    if case == "leaves":
        return ENDLESS
    script = SCRIPTS[case]
    if body.get("stream") or script.status >= 500:
        return script
    part, well = completion("delivery"), case in GOOD
    kept = script.first_after if well else 0.0
    # A vendor whose answer in one piece breaks off; it says how long it would have been.
    return Script(
        headers=JSON,
        parts=[part if well else part[:60]],
        first_after=kept,
        end="well" if well else "cut",
    )


@pytest.fixture(scope="module")
def breaking() -> Iterator[Upstream]:
    made = Upstream(vendor)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("breaking") / "loop"


@pytest.fixture(scope="module")
def url(breaking: Upstream, home: Path) -> Iterator[str]:
    with gateway_before(breaking.url, home) as found:
        yield found


def seen(clients: Clients, url: str, *cases: str) -> dict[str, list[str]]:
    """What every client made of every case."""
    script = clients.node / "broken_suite.mjs"
    shutil.copy(HERE / script.name, script)
    node = shutil.which("node") or "node"
    variables = os.environ | {"BASE_URL": url, "CASES": ",".join(cases)}
    variables.pop("PYTHONPATH", None)
    found: dict[str, Any] = {}
    running = [
        subprocess.Popen(
            command, env=variables, cwd=clients.node, stdout=subprocess.PIPE, text=True
        )
        for command in (
            [str(clients.python), str(HERE / "broken_suite.py")],
            [node, str(script)],
        )
    ]
    for process in running:
        out, _ = process.communicate()
        assert process.returncode == 0, out
        found |= json.loads(out)
    return found


def test_all_raise_where_a_stream_breaks_and_wait_where_it_is_slow(
    clients: Clients, breaking: Upstream, url: str, home: Path, record_property: Any
) -> None:
    past = seen(clients, breaking.url, *SCRIPTS)
    through = seen(clients, url, *SCRIPTS)
    assert len(through) == 8 * len(SCRIPTS)

    def taken(found: dict[str, list[str]]) -> list[str]:
        broken = {name: what for name, what in found.items() if name.split(": ")[1] in BROKEN}
        return sorted(name for name, (kind, _) in broken.items() if kind == "whole")

    print(f"taken as whole past the gateway: {taken(past)}")
    record_property("taken as whole past the gateway", taken(past))
    assert taken(through) == []
    good = {name: what for name, what in through.items() if name.split(": ")[1] in GOOD}
    assert {tuple(what) for what in good.values()} == {("whole", "delivery")}
    assert good == {name: past[name] for name in good}
    assert "Traceback" not in (home / "gateway.log").read_text()


def test_a_client_that_leaves_frees_the_vendor(
    clients: Clients, breaking: Upstream, url: str, home: Path
) -> None:
    found = seen(clients, url, "leaves")
    assert [what for what in found.values() if what != ["whole", "left"]] == []
    end = time.monotonic() + 60
    while breaking.answering and time.monotonic() < end:
        time.sleep(0.1)
    assert breaking.answering == 0
    lines = [line for file in (home / "spool").glob("*-*") for line in file.read_text().split("\n")]
    rows = [json.loads(line) for line in lines if line]
    left = [row for row in rows if row["messages"][-1]["content"] == "leaves"]
    # Three Python clients and two of JavaScript.
    assert Counter(row["finish_reason"] for row in left) == {"cancelled": 5}
