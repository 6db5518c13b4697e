"""A store survives kill -9 and two starts at once while its tables are made, and old bricks."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pandas import isna
from sqlalchemy import create_engine, text

from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.tables import Base, ContractRow, FeedbackRow, TraceRow
from loop_pipeline.store.upgrade import StoreError, newest_version
from loop_pipeline.traces.messages import template_hash
from loop_pipeline_tests.conftest import fresh_database

ROOT = Path(__file__).parents[2]
# A process that opens stores in children of its own and kills them: argv is what to do, then for
# each child the number of the statement after which it dies (0: never) and the store's URL.
DRIVER = r"""
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, create_engine, event
import alembic.command
from alembic.config import Config
import loop_pipeline.store.database as database
import loop_pipeline.store.upgrade as upgrade

def as_before(url):  # how 0.1 did it: every statement of a migration was kept alone
    engine = create_engine(url)
    event.listen(engine, "connect", upgrade.sqlite_pragmas)
    with engine.begin() as connection:
        upgrade._migrate(connection, "head")

def to_0003(url):
    with create_engine(url).begin() as connection:
        upgrade._migrate(connection, "0003")

def to_0005(url):
    with create_engine(url).begin() as connection:
        upgrade._migrate(connection, "0005")

def to_0006(url):
    with create_engine(url).begin() as connection:
        upgrade._migrate(connection, "0006")

def start(what, point, url, gate):
    seen = 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)
    if point:
        event.listen(Engine, "after_cursor_execute", count)
    os.read(gate, 1)
    {"open": database.open_store, "as-before": as_before, "to-0003": to_0003,
     "to-0005": to_0005, "to-0006": to_0006}[what](url)
    print(seen, flush=True)

what, jobs = sys.argv[1], sys.argv[2:]
gate, opener = os.pipe()
pids = []
for point, url in zip(jobs[::2], jobs[1::2]):
    if not (pid := os.fork()):
        try:
            start(what, int(point), url, gate)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    pids.append(pid)
os.write(opener, b"." * len(pids))
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes empty stores, one a call."""
    made = 0

    def make() -> str:
        nonlocal made
        made += 1
        if request.param == "postgres":
            return fresh_database(request.getfixturevalue("postgres"))
        return f"sqlite:///{tmp_path}/{made}.db"

    yield make


def _drive(what: str, *jobs: tuple[int, str]) -> list[int]:
    """Exit codes of the children, -9 for a killed one."""
    words = [str(word) for job in jobs for word in job]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, what, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return eval(done.stdout.splitlines()[-1])  # a list of numbers, printed above


def _is_whole(url: str) -> None:
    engine = open_store(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.scalar(text("select version_num from alembic_version")) == (
            newest_version()
        )
    read(engine, ContractRow)
    engine.dispose()


def _add_feedback(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for number in range(3):
            connection.execute(
                text(
                    "insert into feedback values (:id, 'p', 'accepted', null, null, null,"
                    " '2026-09-01 10:05:00', 's')"
                ),
                {"id": f"f{number}"},
            )
    engine.dispose()


def test_a_first_start_that_is_killed_anywhere_leaves_a_store_that_opens(new_url) -> None:
    jobs = [(point, new_url()) for point in range(4, 64, 9)]
    assert set(_drive("open", *jobs)) == {-9}
    for _, url in jobs:
        _is_whole(url)


def test_an_upgrade_that_is_killed_anywhere_leaves_a_store_that_opens_with_its_rows(new_url):
    urls = [new_url() for _ in range(6)]
    assert set(_drive("to-0003", *((0, url) for url in urls))) == {0}
    for url in urls:
        _add_feedback(url)
    assert set(_drive("open", *((4 + 6 * n, url) for n, url in enumerate(urls)))) == {-9}
    for url in urls:
        _is_whole(url)
        engine = open_store(url)
        assert len(read(engine, FeedbackRow)) == 3
        engine.dispose()


def _add_traces(url: str) -> dict[str, list[dict[str, str]]]:
    """Traces as version 0005 has them; returns their messages."""
    asked = {
        "p1": [{"role": "system", "content": "Sort."}, {"role": "user", "content": "a"}],
        "p2": [{"role": "developer", "content": "Sort."}, {"role": "user", "content": "a"}],
        "p3": [{"role": "user", "content": 'the word "developer"'}],
    }
    columns = (
        "prompt_id, ts, day, app, template_hash, messages, output, producer, model, tokens_in, "
        "tokens_cached, tokens_out, cost_usd, split, dedup_key, simulated, source, route"
    )
    engine = create_engine(url)
    with engine.begin() as connection:
        for prompt_id, messages in asked.items():
            connection.execute(
                text(
                    f"insert into traces ({columns}) values (:id, '2026-09-01 10:00:00', "
                    "'2026-09-01', 'default', :old, :messages, 'out', 'frontier', 'm', 1, 0, 1, "
                    "0.5, 'train', 'key', false, 's', 'null')"
                ),
                {"id": prompt_id, "old": template_hash([]), "messages": json.dumps(messages)},
            )
    engine.dispose()
    return asked


def test_traces_of_the_version_before_keep_all_they_had_and_get_what_is_new(new_url) -> None:
    url = new_url()
    assert _drive("to-0005", (0, url)) == [0]
    asked = _add_traces(url)
    _is_whole(url)
    engine = open_store(url)
    rows = read(engine, TraceRow).set_index("prompt_id")
    assert rows["messages"].to_dict() == asked
    assert set(rows["dedup_key"]) == {"key"}
    assert set(rows["retries"]) == {0}
    for name in ("tools", "parameters", "tool_calls", "served_model", "response_id", "tags"):
        assert rows[name].isna().all()
    # A developer's message is a system prompt from here on; no other template changes its name.
    names = rows["template_hash"]
    assert names["p2"] == template_hash(asked["p1"])
    assert names["p1"] == names["p3"] == template_hash([])
    engine.dispose()


def test_a_zero_of_an_unknown_price_becomes_null_and_a_known_one_stays(new_url) -> None:
    url = new_url()
    assert _drive("to-0006", (0, url)) == [0]
    told = {  # model, producer, tokens, cost: what becomes of it
        "unknown": ("own-9", "frontier", 5, 0, None),
        "unknown-paid": ("own-9", "frontier", 5, 0.25, 0.25),
        "unknown-no-tokens": ("own-9", "frontier", 0, 0, 0),
        "listed": ("gpt-5.5", "frontier", 5, 0, 0),
        "listed-build": ("azure/gpt-5.5-2026-04-23", "frontier", 5, 0, 0),
        "student": ("desk-1", "student", 5, 0, 0),
    }
    columns = (
        "prompt_id, ts, day, app, template_hash, messages, output, producer, model, tokens_in, "
        "tokens_cached, tokens_out, cost_usd, split, dedup_key, simulated, source, retries"
    )
    engine = create_engine(url)
    with engine.begin() as connection:
        for name, (model, producer, tokens, cost, _) in told.items():
            connection.execute(
                text(
                    f"insert into traces ({columns}) values (:id, '2026-09-01 10:00:00', "
                    "'2026-09-01', 'default', 't', '[]', 'out', :who, :model, :tokens, 0, 0, "
                    ":cost, 'train', 'key', false, 's', 0)"
                ),
                {"id": name, "who": producer, "model": model, "tokens": tokens, "cost": cost},
            )
    engine.dispose()
    _is_whole(url)
    engine = open_store(url)
    rows = read(engine, TraceRow).set_index("prompt_id")
    found = {name: None if isna(usd) else usd for name, usd in rows["cost_usd"].items()}
    assert found == {name: end for name, (*_, end) in told.items()}
    assert set(rows["tokens_cache_write"]) == {0}
    engine.dispose()


def test_two_first_starts_at_once_both_succeed(new_url) -> None:
    urls = [new_url() for _ in range(6)]
    assert set(_drive("open", *((0, url) for url in urls for _ in range(2)))) == {0}
    for url in urls:
        _is_whole(url)


def test_what_an_older_version_left_half_made_is_mended(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.db" for n in range(8)]
    jobs = [(4 + 9 * n, f"sqlite:///{path}") for n, path in enumerate(paths)]
    assert set(_drive("as-before", *jobs)) == {-9}
    for _, url in jobs:
        _is_whole(url)


def test_an_upgrade_that_an_older_version_left_half_made_is_mended_with_its_rows(tmp_path: Path):
    urls = [f"sqlite:///{tmp_path}/{n}.db" for n in range(8)]
    assert set(_drive("to-0003", *((0, url) for url in urls))) == {0}
    for url in urls:
        _add_feedback(url)
    _drive("as-before", *((3 + 7 * n, url) for n, url in enumerate(urls)))
    for url in urls:
        _is_whole(url)
        engine = open_store(url)
        assert len(read(engine, FeedbackRow)) == 3
        engine.dispose()


def test_tables_with_rows_but_no_version_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/loop.db"
    engine = open_store(url)
    engine.dispose()
    with sqlite3.connect(tmp_path / "loop.db") as file:
        file.execute("insert into contracts values ('a', '{}')")
        file.execute("drop table alembic_version")
    with pytest.raises(StoreError, match=r"no version of the loop has made whole.*contracts"):
        open_store(url)
    with sqlite3.connect(tmp_path / "loop.db") as file:
        assert file.execute("select count(*) from contracts").fetchone() == (1,)


def test_an_upgrade_keeps_a_copy_of_the_store_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/loop.db"
    _drive("to-0003", (0, url))
    _add_feedback(url)
    open_store(url).dispose()
    with sqlite3.connect(tmp_path / "loop.db.before-0003") as copy:
        assert copy.execute("select version_num from alembic_version").fetchone() == ("0003",)
        assert copy.execute("select count(*) from feedback").fetchone() == (3,)
    open_store(f"sqlite:///{tmp_path}/new.db").dispose()
    assert not list(tmp_path.glob("new.db.before*"))


@pytest.mark.parametrize(
    ("version", "words"),
    [("9999", "install the newer one"), ("c48cb773bb87", "another program's database")],
)
def test_a_store_of_another_version_says_so_and_is_left_alone(
    new_url: Callable[[], str], version: str, words: str
) -> None:
    url = new_url()
    engine = open_store(url)
    with engine.begin() as connection:
        connection.execute(text(f"update alembic_version set version_num = '{version}'"))
    engine.dispose()
    with pytest.raises(StoreError, match=words) as found:
        open_store(url)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("damage", ["no database", "a page of zeros", "cut"])
def test_a_damaged_file_says_so_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "loop.db"
    open_store(f"sqlite:///{path}").dispose()
    content = path.read_bytes()
    path.write_bytes(
        {
            "no database": b"these are not the pages of a database" * 100,
            "a page of zeros": content[:100] + bytes(4096) + content[4196:],
            "cut": content[:4096],
        }[damage]
    )
    for rest in tmp_path.glob("loop.db-*"):
        rest.unlink()
    with pytest.raises(StoreError, match="is damaged or no SQLite database") as found:
        open_store(f"sqlite:///{path}")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://loop:hunter2:secret@127.0.0.1:x/loop",
        "postgresql+psycopg2://loop:pa@ss-hunter2@127.0.0.1/loop",
        "hunter2 is no URL",
    ],
)
def test_a_wrong_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="LOOP_DATABASE_URL") as found:
        open_store(url)
    assert "hunter2:" not in str(found.value)
    assert "ss-hunter2" not in str(found.value)
