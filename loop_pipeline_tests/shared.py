"""What the workers of one test run share: one PostgreSQL server, and files that are copied.

Fixtures live in `conftest.py`. Nothing here knows a stage of the loop.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from loop_pipeline.http_calls.local_server import free_port as free_port
from loop_pipeline.store.database import open_store

TEMPLATE = "loop_template"
# Seconds: see `ends`.
ENDLESS_S = 60.0
POSTGRES = "postgres.json"


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a run see, and the process that started them."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """A file or folder that the first worker makes while the others wait for it."""
    done = path.with_name(f"{path.name}.done")
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not done.exists():
            make(path)
            done.touch()
    return path


def postgres_url(folder: Path) -> str:
    """The run's PostgreSQL server; the first who asks starts it.

    It has a database `loop_template` with the newest schema of the store, to be copied.
    """
    path = made_once(folder / POSTGRES, _start_postgres)
    return json.loads(path.read_text())["url"]


def end_postgres(folder: Path) -> None:
    """End the server that `postgres_url` started, if it did; called when every worker is done."""
    path = folder / POSTGRES
    if path.exists():
        _end(**json.loads(path.read_text()))
        path.unlink()


def fresh_database(server_url: str, template: str | None = None) -> str:
    """Make a database on a server: empty, or a copy of a template. Returns its URL."""
    name = f"loop_{os.urandom(6).hex()}"
    return _create(server_url, f"{name} template {template}" if template else name)


def _create(server_url: str, words: str) -> str:
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {words}"))
    engine.dispose()
    return f"{server_url.rsplit('/', 1)[0]}/{words.split()[0]}"


def _start_postgres(path: Path) -> None:
    initdb, server = _tool("initdb"), _tool("postgres")
    folder = Path(tempfile.mkdtemp(prefix="loop-postgres-"))
    as_user: dict[str, Any] = {}
    if getpass.getuser() == "root":  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = {"user": "postgres"}
    port, data = free_port(), folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    make = [initdb, "-D", data, "-U", "loop", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(make, check=True, **quiet, **as_user)
    options = ["-p", str(port), "-k", folder, "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
    # A session of its own: the worker that starts it may end before the last test that needs it.
    process = subprocess.Popen(
        [server, "-D", data, *options], start_new_session=True, **quiet, **as_user
    )
    url = f"postgresql+psycopg2://loop@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url, process)
        open_store(_create(url, TEMPLATE)).dispose()
    except BaseException:
        _end(process.pid, str(folder))
        raise
    path.write_text(json.dumps({"pid": process.pid, "folder": str(folder), "url": url}))


def _end(pid: int, folder: str, url: str = "") -> None:
    del url
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)  # "fast": does not wait for clients
    end = time.monotonic() + 60
    while (Path(folder) / "data" / "postmaster.pid").exists() and time.monotonic() < end:
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _tool(name: str) -> str:
    found = shutil.which(name) or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    if found is None:
        pytest.skip(f"PostgreSQL is not installed here ({name} not found)")
    return found


def _wait_for(url: str, process: subprocess.Popen[Any]) -> None:
    engine = create_engine(url)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "PostgreSQL ended while it was starting"
        try:
            with engine.connect():
                break
        except OperationalError:
            time.sleep(0.2)
    else:
        raise TimeoutError("PostgreSQL did not start in 60 s")
    engine.dispose()


def secret() -> bytes:
    """Of an installation, where an import needs one and which one says nothing."""
    return b"s" * 32


@contextmanager
def ends(clock: Callable[[], float] = time.process_time) -> Iterator[None]:
    """What would go on for minutes, or for ever, ends: no measurement of how fast it is.

    The limit lies far above what bounded work takes on a busy machine. ``clock`` is that of the
    processor; where something waits, that on the wall.
    """
    start = clock()
    yield
    assert clock() - start < ENDLESS_S
