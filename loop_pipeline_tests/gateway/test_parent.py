"""The gateway as a person starts it: real processes, a real store, signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from loop_pipeline_tests.clients.routed import SECRET, put_in_force, student_server
from loop_pipeline_tests.gateway.live import ASKED, wait_for
from loop_pipeline_tests.upstream import Script, Upstream, answer

pytestmark = pytest.mark.slow


class Running:
    """`loop gateway` as a process of its own."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        command = [sys.executable, "-m", "loop_pipeline.cli.main", "gateway", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"http://\S+(?=/v1)", said)
        if found is None:
            self.process.wait(30)
            raise RuntimeError(self.process.stderr.read() if self.process.stderr else said)
        self.url = found[0]
        wait_for(lambda: self.ready() == 200, 60)

    def ready(self) -> int | None:
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code
        except requests.RequestException:
            return None

    def post(self, path: str = "/v1/chat/completions", **arguments: Any) -> requests.Response:
        arguments.setdefault("json", ASKED)
        return requests.post(self.url + path, timeout=30, **arguments)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> str:
        """SIGTERM; gives what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, logged = self.process.communicate(timeout=60)
        return logged


@contextmanager
def running(*arguments: str, **variables: str) -> Iterator[Running]:
    made = Running(*arguments, **variables)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.stop()


@pytest.fixture
def home(loop_environment: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOP_FRONTIER_URLS", upstream.url)
    monkeypatch.setenv("LOOP_FRONTIER_MODEL", "gpt-5.5")
    monkeypatch.setenv("LOOP_FRONTIER_API_KEY", "sk-vendor-planted")
    return loop_environment


def _rows(home: Path) -> list[dict[str, Any]]:
    paths = sorted((home / "spool").glob("*-*"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def _loop(*arguments: str) -> str:
    command = [sys.executable, "-m", "loop_pipeline.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_starts_without_a_policy_says_so_and_ends_in_order(home: Path) -> None:
    with running() as gateway:
        said = gateway.post()
        assert said.status_code == 200
        assert said.headers["x-loop-reason"] == "there is no policy in force"
        logged = gateway.stop()
    assert gateway.process.returncode == 0
    assert [row["route"]["reason"] for row in _rows(home)] == ["there is no policy in force"]
    assert [path.suffix for path in (home / "spool").glob("*-*")] == [".jsonl"], "sealed"
    assert "Traceback" not in logged


def test_a_worker_knows_neither_pandas_nor_a_database(home: Path) -> None:
    names = ("pandas", "sqlalchemy", "sklearn", "dagster", "mlflow", "loop_pipeline.store")
    code = (
        "import sys, loop_pipeline.gateway.worker; "
        f"print([name for name in {names!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with running() as gateway:
        gateway.post()
        (pid,) = gateway.workers()
        status = Path(f"/proc/{pid}/status").read_text()
    kb = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # pyright: ignore[reportOptionalSubscript]
    assert kb < 130_000


def test_keys_added_and_revoked_count_within_five_seconds(home: Path) -> None:
    with running() as gateway:
        key = _loop("keys", "add", "desk app", "--app", "desk").strip()
        assert key.startswith("lk_")
        wait_for(lambda: gateway.post().status_code == 401, 5)
        mine = {"authorization": f"Bearer {key}"}
        assert gateway.post(headers=mine).status_code == 200
        assert key not in _loop("keys", "list")
        _loop("keys", "revoke", "desk app")
        wait_for(lambda: gateway.post(headers=mine).status_code == 401, 5)
        assert gateway.post().status_code == 401, "the last key revoked opens no door"
        logged = gateway.stop()
    files = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())
    for secret in (key, "sk-vendor-planted"):
        assert secret not in logged
        assert secret.encode() not in files


def test_it_listens_elsewhere_only_with_keys(home: Path) -> None:
    with pytest.raises(RuntimeError, match="make a key with `loop keys add`"):
        Running("--host", "0.0.0.0")
    _loop("keys", "add", "somebody")
    with running("--host", "0.0.0.0") as gateway:
        assert gateway.post().status_code == 401


def test_a_store_that_goes_away_changes_nothing(home: Path) -> None:
    key = _loop("keys", "add", "somebody").strip()
    mine = {"authorization": f"Bearer {key}"}
    nowhere = {"LOOP_DATABASE_URL": "postgresql+psycopg2://u:secret-word@127.0.0.1:9/x"}
    with running() as gateway:
        assert gateway.post(headers=mine).status_code == 200
    with running(**nowhere) as gateway:
        assert gateway.post(headers=mine).status_code == 200
        assert gateway.post().status_code == 401
        logged = gateway.stop()
    assert "the store does not answer, the last copies stay in force" in logged
    assert "secret-word" not in logged
    assert len(_rows(home)) == 2
    with pytest.raises(RuntimeError, match="nobody knows who may call"):
        Running(**nowhere, LOOP_HOME=str(home / "new"))


def test_a_hold_reaches_the_workers_and_stays_while_the_store_is_down(home: Path) -> None:
    put_in_force(home, "gpt-5.5")
    server = Upstream(student_server)
    given = {
        "LOOP_VLLM_URL": server.url.removesuffix("/v1"),
        "LOOP_INSTALLATION_SECRET": SECRET,
        "LOOP_STUDENT_PATIENCE_MS": "60000",
    }
    plain = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "Hello"}]}

    def reason(gateway: Running) -> str:
        return gateway.post(json=plain).headers["x-loop-reason"]

    def has_policy(gateway: Running) -> bool:
        return requests.get(f"{gateway.url}/health/ready", timeout=5).json()["policy"]

    try:
        with running(**given) as gateway:
            wait_for(lambda: has_policy(gateway))
            assert "held" not in reason(gateway)
            _loop("policy", "hold", "g-plain", "--reason", "complaints of today")
            wait_for(lambda: "held back until it is released" in reason(gateway), 5)
        nowhere = {"LOOP_DATABASE_URL": "postgresql+psycopg2://u:x@127.0.0.1:9/x"}
        with running(**given, **nowhere) as gateway:
            wait_for(lambda: has_policy(gateway))
            assert "held back until it is released" in reason(gateway)
    finally:
        server.stop()


def test_two_workers_share_the_port_and_one_that_is_killed_comes_back(home: Path) -> None:
    with running("--workers", "2") as gateway:
        assert {gateway.post().status_code for _ in range(20)} == {200}
        first, second = gateway.workers()
        os.kill(first, signal.SIGKILL)
        assert gateway.post().status_code == 200, "the other one answers"
        wait_for(lambda: len(gateway.workers()) == 2 and first not in gateway.workers())
        assert second in gateway.workers()
        wait_for(lambda: gateway.ready() == 200)
        metrics = requests.get(f"{gateway.url}/metrics", timeout=5).text
        count = re.search(r"loop_requests_total\{.*\} (\d+)", metrics)
        assert count is not None
        assert int(count[1]) == 21
    assert len(_rows(home)) == 21


def test_a_keys_limit_holds_over_all_workers_and_a_killed_one_gives_its_places_back(
    home: Path, upstream: Upstream
) -> None:
    key = _loop("keys", "add", "desk app", "--per-minute", "7", "--parallel", "2").strip()
    bearer = {"authorization": f"Bearer {key}"}
    with running(LOOP_GATEWAY_WORKERS="2") as gateway:
        wait_for(lambda: len(gateway.workers()) == 2, 60)
        upstream.then(Script(first_after=30), Script(first_after=30))
        for _ in range(2):
            threading.Thread(target=_leaves, args=(gateway, bearer), daemon=True).start()
        wait_for(lambda: upstream.answering == 2)
        said = [gateway.post(headers=bearer) for _ in range(8)]
        assert {reply.status_code for reply in said} == {429}
        for pid in gateway.workers():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gateway.ready() == 200, 60)
        wait_for(lambda: gateway.post(headers=bearer).status_code == 200)
        said = [gateway.post(headers=bearer) for _ in range(12)]
        assert [reply.status_code for reply in said].count(200) == 4
    assert sorted(path.suffix for path in (home / "gateway" / "limits").iterdir()) == [".json"]


def _leaves(gateway: Running, headers: dict[str, str]) -> None:
    with contextlib.suppress(requests.RequestException):
        gateway.post(headers=headers)


def test_what_is_under_way_at_sigterm_gets_its_answer(home: Path, upstream: Upstream) -> None:
    slow = answer()
    slow.first_after = 2
    upstream.then(slow)
    said: list[requests.Response] = []
    with running() as gateway:
        asking = threading.Thread(target=lambda: said.append(gateway.post()))
        asking.start()
        wait_for(lambda: upstream.answering == 1)
        gateway.stop()
        asking.join()
    assert said[0].status_code == 200
    assert said[0].json()["choices"][0]["message"]["content"] == "delivery"
    assert len(_rows(home)) == 1


def test_after_kill_9_every_answer_that_was_received_has_a_trace(home: Path) -> None:
    received: list[str] = []
    with running() as gateway:
        (pid,) = gateway.workers()

        def ask() -> None:
            try:
                while True:
                    received.append(gateway.post().headers["x-loop-prompt-id"])
            except (requests.RequestException, KeyError):
                return

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        wait_for(lambda: len(received) > 100)
        os.kill(pid, signal.SIGKILL)
        for thread in asking:
            thread.join()
        wait_for(lambda: gateway.ready() == 200)
    assert len(received) > 100
    assert set(received) <= {row["prompt_id"] for row in _rows(home)}
