"""Stores on SQLite and on a PostgreSQL that the tests start themselves, and a few traces."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import Engine

from loop_pipeline.store.database import open_store
from loop_pipeline_tests import shared
from loop_pipeline_tests.serving.stub import Stub
from loop_pipeline_tests.shared import TEMPLATE, free_port, fresh_database, made_once

__all__ = ["free_port", "fresh_database"]
STORES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
# Here a test is a whole run of Dagster or of the doctor, and only the store differs: PostgreSQL's
# variant is slow. The statements themselves are tried on both stores where they are written.
WHOLE_RUNS = {"defs", "doctor", "faults"}
SLOW_FILE = re.compile(r"^pytestmark = (\[[^\]]*|.*)\bmark\.slow\b", re.MULTILINE)
NIGHTLY = "installs or repeats in full what a smaller test shows: pytest --nightly runs it"
# No example has a deadline: a busy machine is no fault. Each day's run tries the same examples, so
# that its outcome is the change's and not luck's; the nightly one draws others every time.
settings.register_profile("each day", deadline=None, derandomize=True)
settings.register_profile("nightly", deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run what takes too long for each day")


def pytest_configure(config: pytest.Config) -> None:
    """Which examples are tried; and one thread a worker, as more would wait for each other."""
    settings.load_profile("nightly" if config.getoption("--nightly") else "each day")
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that is slow as a whole is not imported where no slow test is asked for."""
    asked_for = str(config.getoption("markexpr"))
    if "not slow" not in asked_for or collection_path.suffix != ".py":
        return None
    return True if SLOW_FILE.search(collection_path.read_text("utf-8")) else None


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses by the marks that are set here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the nightly ones with a reason; start the longest first."""
    for item in items:
        if item.path.parent.name in WHOLE_RUNS and item.get_closest_marker("postgres"):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("nightly") and not config.getoption("--nightly"):
            item.add_marker(pytest.mark.skip(reason=NIGHTLY))
    if hasattr(config, "workerinput"):
        items.sort(key=_cost)


def _cost(item: pytest.Item) -> int:
    # Two workers end together only if what takes minutes is not begun last.
    return next((i for i, name in enumerate(("serve", "slow")) if item.get_closest_marker(name)), 2)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In the process that started the workers: end what they share."""
    if not hasattr(session.config, "workerinput"):
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # pyright: ignore[reportAttributeAccessIssue]
        shared.end_postgres(factory.getbasetemp())


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run see."""
    return shared.run_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def postgres(run_folder: Path) -> str:
    """URL of the run's PostgreSQL server."""
    return shared.postgres_url(run_folder)


@pytest.fixture(scope="session")
def sqlite_template(run_folder: Path) -> Path:
    """A SQLite store with the newest schema and no rows, to be copied."""

    def make(path: Path) -> None:
        open_store(f"sqlite:///{path}").dispose()

    return made_once(run_folder / "template.db", make)


@pytest.fixture
def loop_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No setting of the machine's counts; ``LOOP_HOME`` is the test's own. Returns that folder."""
    for name in [n for n in os.environ if n.startswith("LOOP_") and n != "LOOP_BENCH_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=STORES)
def store_url(
    request: pytest.FixtureRequest, loop_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A fresh store without rows; also where ``LOOP_*`` points to during the test."""
    url = f"sqlite:///{loop_environment / 'loop.db'}"
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres"), TEMPLATE)
    else:
        loop_environment.mkdir(exist_ok=True)
        shutil.copy(request.getfixturevalue("sqlite_template"), loop_environment / "loop.db")
    monkeypatch.setenv("LOOP_DATABASE_URL", url)
    return url


@pytest.fixture(params=STORES)
def empty_database(request: pytest.FixtureRequest, loop_environment: Path) -> str:
    """URL of a database without a single table."""
    if request.param == "postgres":
        return fresh_database(request.getfixturevalue("postgres"))
    loop_environment.mkdir(exist_ok=True)
    return f"sqlite:///{loop_environment / 'loop.db'}"


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
