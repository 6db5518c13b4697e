"""Sends requests that the student has never seen through the real gateway, and learns from them.

Not here: the turn before it (``turn.py``), and the client (``live_traffic.py``).

Everything but the frontier is what production runs: `loop gateway`, vLLM, `loop ship`, the jobs.
The frontier is a local server that answers what the set, or the simulation, says is right.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine

from loop_pipeline.child_environment import child_environment
from loop_pipeline.costs.attribution import LOADED_FACTOR
from loop_pipeline.demo.live_figures import live_numbers, reacts, trace_rows
from loop_pipeline.demo.live_traffic import LiveAnswer, LiveRequest, send_all
from loop_pipeline.demo.turn import Turn, TurnFailed
from loop_pipeline.http_calls.local_server import NotAnswering, free_port, running, wait_for
from loop_pipeline.report.live import NAME, LiveNumbers, live_text
from loop_pipeline.routing.policy import PolicyBundle, load_bundle
from loop_pipeline.store.policies import active_policy
from loop_pipeline.whole_file import write_whole


def load_unseen(path: Path) -> list[LiveRequest]:
    """Requests in the import format, as live ones."""
    lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return [
        LiveRequest(
            line["messages"],
            line["output"],
            line["task"],
            line.get("contract"),
            line["cost_usd"],
        )
        for line in lines
    ]


def live_stretch(
    turn: Turn,
    requests: Sequence[LiveRequest],
    frontier: list[str],
    *,
    seconds: float | None = None,
    concurrency: int = 16,
) -> LiveNumbers:
    """Send the requests, ship the traces, label them and make the next policy.

    Args:
        turn: whose student's server is running.
        requests: with what is right.
        frontier: command of the local frontier; the port is added as its last argument.
        seconds: no request is begun after so long.
        concurrency: requests in flight.

    Raises:
        TurnFailed: a process did not start, or rows that were answered are not in the store.
    """
    settings, bundle = turn.settings, _policy_in_force(turn.engine)
    home = settings.home.absolute()
    before = trace_rows(turn.engine)
    turn.stage("live traffic through the gateway")
    upstream, port = free_port(), free_port()
    variables = {
        "LOOP_HOME": str(home),
        "LOOP_GATEWAY_PORT": str(port),
        "LOOP_FRONTIER_URLS": f"http://127.0.0.1:{upstream}/v1",
        # A local server asks for none, and no real one is to be sent to it.
        "LOOP_FRONTIER_API_KEY": "none",
        "LOOP_FRONTIER_MODEL": bundle.frontier.get("model", ""),
    }
    url = f"http://127.0.0.1:{port}"
    gateway = [sys.executable, "-m", "loop_pipeline.cli.main", "gateway"]
    logs = home / "frontier.log", home / "gateway.log"
    with (
        running([*frontier, str(upstream)], logs[0], child_environment()) as first,
        running(gateway, logs[1], child_environment(**variables)) as second,
    ):
        try:
            wait_for(f"http://127.0.0.1:{upstream}/health", first, logs[0])
            wait_for(f"{url}/health/ready", second, logs[1])
        except NotAnswering as error:
            raise TurnFailed(str(error)) from None
        began = time.monotonic()
        answers = send_all(
            f"{url}/v1",
            "none",
            requests,
            concurrency=concurrency,
            seconds=seconds,
            say=lambda text: turn.say(f"          {text}"),
        )
        spent = time.monotonic() - began
        reactions = _react(url, answers)
    _ship(variables)
    turn.say(f"          {len(answers):,} answers, {reactions:,} reactions")
    came = trace_rows(turn.engine) - before
    rent = settings.server_hourly_usd * LOADED_FACTOR
    numbers = live_numbers(
        turn.engine, bundle, answers, traces=came, seconds=spent, server_usd_per_hour=rent
    )
    turn.say(live_text(numbers))
    try:
        _learn(turn)
    except TurnFailed as refused:
        # A policy that its own traffic cannot vouch for does not come into force.
        turn.say(f"          no next policy: {refused}")
    after = active_policy(turn.engine)
    numbers = numbers.model_copy(update={"next_policy": after["sha256"] if after else ""})
    folder = settings.artifacts / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / NAME, numbers.model_dump_json(indent=1))
    turn.run("refresh_report")
    return numbers


def _policy_in_force(engine: Engine) -> PolicyBundle:
    active = active_policy(engine)
    if active is None:
        raise TurnFailed("no policy is in force: there is nothing to route by")
    return load_bundle(active["bundle"])


def _react(url: str, answers: Sequence[LiveAnswer]) -> int:
    """Send what people said about some of the answers: good where it says what is right."""
    said = [
        {"prompt_id": a.prompt_id, "kind": "thumb_up" if a.agrees else "thumb_down"}
        for a in answers
        if reacts(a)
    ]
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    for at in range(0, len(said), 500):
        body = json.dumps(said[at : at + 500]).encode()
        asked = urllib.request.Request(f"{url}/v1/feedback", body, headers)  # noqa: S310
        with urllib.request.urlopen(asked, timeout=30) as reply:  # noqa: S310
            reply.read()
    return len(said)


def _ship(variables: dict[str, str]) -> None:
    """Bring what was captured into the store.

    Raises:
        TurnFailed: the shipper failed; with its words.
    """
    command = [sys.executable, "-m", "loop_pipeline.cli.main", "ship", "--once"]
    environment = child_environment(**variables)
    done = subprocess.run(
        command, env=environment, cwd=Path.cwd(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TurnFailed(f"loop ship: {(done.stderr or done.stdout).strip()[-500:]}")


def _learn(turn: Turn) -> None:
    """Label what came in, and make the next policy of it."""
    turn.stage("labelling the captured traces, and making the next policy from them")
    turn.run("label_traces", days=True)
    turn.run("regroup")
    turn.run("refresh_policy")
