"""Stores on SQLite and on a PostgreSQL that the tests start themselves, and a few traces."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from loop_pipeline.store.database import open_store
from loop_pipeline_tests.serving.stub import Stub


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _postgres_tool(name: str) -> str:
    found = shutil.which(name) or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    if found is None:
        pytest.skip(f"PostgreSQL is not installed here ({name} not found)")
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of an empty PostgreSQL server on a free port; gone at the end of the session."""
    initdb, server = _postgres_tool("initdb"), _postgres_tool("postgres")
    folder = Path(tempfile.mkdtemp(prefix="loop-postgres-"))
    as_user: dict[str, Any] = {}
    if getpass.getuser() == "root":  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = {"user": "postgres"}
    port, data = free_port(), folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [initdb, "-D", data, "-U", "loop", "-A", "trust", "-E", "UTF8"],
        check=True,
        **quiet,
        **as_user,
    )
    options = ["-p", str(port), "-k", folder, "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
    process = subprocess.Popen([server, "-D", data, *options], **quiet, **as_user)
    url = f"postgresql+psycopg2://loop@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # "fast": does not wait for clients
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    import time

    engine = create_engine(url)
    for _ in range(150):
        assert process.poll() is None, "PostgreSQL ended while it was starting"
        try:
            with engine.connect():
                return
        except OperationalError:
            time.sleep(0.2)
    raise TimeoutError("PostgreSQL did not start in 30 s")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A fresh, empty store; also where ``LOOP_*`` points to during the test."""
    for name in [n for n in os.environ if n.startswith("LOOP_") and n != "LOOP_BENCH_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    url = f"sqlite:///{tmp_path / 'home' / 'loop.db'}"
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres"))
    monkeypatch.setenv("LOOP_DATABASE_URL", url)
    return url


def fresh_database(server_url: str) -> str:
    """Make an empty database on a server. Returns its URL."""
    name = f"loop_{os.urandom(6).hex()}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine.dispose()
    return f"{server_url.rsplit('/', 1)[0]}/{name}"


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """The fresh store, opened."""
    opened = open_store(store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def trace() -> Callable[..., dict[str, Any]]:
    """Makes a line of the import format; arguments replace its fields."""

    def make(number: int = 0, **fields: Any) -> dict[str, Any]:
        return {
            "prompt_id": f"p{number}",
            "ts": f"2026-09-{1 + number % 3:02d}T10:00:00+00:00",
            "messages": [
                {"role": "system", "content": "Classify the request."},
                {"role": "user", "content": f"where is order {number}?"},
            ],
            "output": "delivery",
            "model": "claude-opus-5",
            "contract": {"kind": "label", "labels": ["delivery", "refund"]},
            **fields,
        }

    return make


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines (objects or raw text) to a file."""

    def write(*lines: dict[str, Any] | str, name: str = "traces.jsonl") -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts) + "\n")
        return path

    return write


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.stop()
