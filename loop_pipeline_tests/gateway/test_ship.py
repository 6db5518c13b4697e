from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from loop_pipeline.gateway import ship as module
from loop_pipeline.gateway.capture import Capture
from loop_pipeline.gateway.segments import Segment, backlog, sealed
from loop_pipeline.gateway.ship import ship
from loop_pipeline.store.database import count, open_store, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline_tests.conftest import free_port

ROOT = Path(__file__).parents[2]
Make = Callable[..., dict[str, Any]]
# Ships in children that are killed after so many milliseconds each, then once to the end.
DRIVER = r"""
import os, signal, sys, time
from pathlib import Path
from loop_pipeline.gateway import ship as module
from loop_pipeline.store.database import open_store
from loop_pipeline.traces.importers import batches

spool, url = Path(sys.argv[1]), sys.argv[2]
batches.BATCH, module.TAKE_FILES = 40, 3
killed = 0
for pause in map(int, sys.argv[3:]):
    if not (pid := os.fork()):
        module.ship(lambda: open_store(url), spool, once=True, say=print)
        os._exit(0)
    time.sleep(pause / 1000)
    os.kill(pid, signal.SIGKILL)
    killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
print(killed)
"""


def _segment(spool: Path, *lines: dict[str, Any] | str, torn: str = "") -> Path:
    segment = Segment(spool)
    for line in lines:
        text = line if isinstance(line, str) else json.dumps(line)
        segment.append(text.encode() + b"\n")
    if torn:
        segment.append(torn.encode())
    segment.seal()
    return segment.path.with_suffix(".jsonl")


def _ship(engine: Engine, spool: Path) -> tuple[module.Shipped, list[str]]:
    said: list[str] = []
    return ship(lambda: engine, spool, once=True, say=said.append), said


def _thumb(prompt_id: str) -> dict[str, Any]:
    return {"prompt_id": prompt_id, "kind": "thumb_up", "ts": "2026-10-01T00:00:00Z"}


def test_segments_come_into_the_store_and_go(engine: Engine, tmp_path: Path, trace: Make):
    spool = tmp_path / "spool"
    for start in (0, 10, 20):
        _segment(spool, *(trace(i) for i in range(start, start + 10)), _thumb(f"p{start}"))
    done, _ = _ship(engine, spool)
    assert (done.segments, done.imported.traces, done.imported.feedback) == (3, 30, 3)
    assert set(read(engine, TraceRow)["source"]) == {"gateway"}
    assert sealed(spool) == []
    assert _ship(engine, spool)[0].segments == 0


def test_a_torn_last_line_is_counted_and_what_is_before_it_is_kept(
    engine: Engine, tmp_path: Path, trace: Make
):
    _segment(tmp_path, trace(1), torn='{"prompt_id": "p2", "messages": [{"ro')
    _segment(tmp_path, trace(3), "{broken in the middle", trace(4))
    done, _ = _ship(engine, tmp_path)
    assert (done.imported.traces, done.torn, done.imported.quarantined) == (3, 1, 1)
    assert "1 torn last line" in str(done)
    assert read(engine, QuarantineRow)["raw"].tolist() == ["{broken in the middle"]


def test_a_segment_that_was_imported_but_not_deleted_changes_nothing(
    engine: Engine, tmp_path: Path, trace: Make
):
    path = _segment(tmp_path, trace(1), "{broken", _thumb("p1"), _thumb("never"))
    content = path.read_bytes()
    _ship(engine, tmp_path)
    before = [read(engine, table) for table in (TraceRow, FeedbackRow, QuarantineRow)]
    _segment(tmp_path, trace(2))
    path.write_bytes(content)
    _ship(engine, tmp_path)
    after = [read(engine, table) for table in (TraceRow, FeedbackRow, QuarantineRow)]
    assert [len(frame) for frame in after] == [2, 1, 2]
    assert after[1].equals(before[1])
    assert after[2].equals(before[2])


def test_a_segment_that_cannot_be_imported_does_not_block_the_rest(
    engine: Engine, tmp_path: Path, trace: Make, monkeypatch: pytest.MonkeyPatch
):
    _segment(tmp_path, trace(1))
    bad = _segment(tmp_path, trace(2))
    _segment(tmp_path, trace(3))
    read_jsonl = module.read_jsonl

    def fails(path: Path):
        if path == bad:
            raise RuntimeError("nobody thought of this")
        yield from read_jsonl(path)

    monkeypatch.setattr(module, "read_jsonl", fails)
    done, said = _ship(engine, tmp_path)
    assert sorted(read(engine, TraceRow)["prompt_id"]) == ["p1", "p3"]
    assert (done.set_aside, [p.name for p in tmp_path.glob("*.refused")]) == (
        1,
        [f"{bad.name}.refused"],
    )
    assert any("nobody thought of this" in line for line in said)


def test_while_the_store_is_down_it_says_so_once_and_waits(
    engine: Engine, tmp_path: Path, trace: Make, monkeypatch: pytest.MonkeyPatch
):
    _segment(tmp_path, trace(1))
    naps: list[float] = []
    monkeypatch.setattr(module.time, "sleep", naps.append)
    said: list[str] = []

    def answers_the_sixth_time() -> Engine:
        if len(naps) < 6:
            where = f"postgresql+psycopg2://loop:secret-word@127.0.0.1:{free_port()}/loop"
            return open_store(where)
        return engine

    done = ship(answers_the_sixth_time, tmp_path, once=True, say=said.append)
    assert done.imported.traces == 1
    assert naps == [1, 2, 4, 8, 16, 30]
    assert len(said) == 2
    assert "does not take traces" in said[0]
    assert "secret-word" not in said[0]
    assert "takes traces again" in said[1]


def test_a_store_that_goes_away_between_two_segments_loses_nothing(
    engine: Engine, tmp_path: Path, trace: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "TAKE_FILES", 1)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    for n in range(6):
        _segment(tmp_path, trace(n))
    bring, calls = module.import_records, []

    def sometimes(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) % 2:
            raise OperationalError("insert", None, Exception("server closed the connection"))
        return bring(*args, **more)

    monkeypatch.setattr(module, "import_records", sometimes)
    done, _ = _ship(engine, tmp_path)
    assert (done.imported.traces, done.set_aside, len(calls)) == (6, 0, 12)


def test_two_shippers_do_not_work_on_one_spool(engine: Engine, tmp_path: Path):
    with (
        module._alone(tmp_path),
        pytest.raises(RuntimeError, match="another loop ship works on"),
    ):
        _ship(engine, tmp_path)


def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    store_url: str, tmp_path: Path, trace: Make
):
    spool = tmp_path / "spool"
    for start in range(0, 1200, 30):
        lines = [trace(i, response_id=f"resp_{i}") for i in range(start, start + 30)]
        _segment(spool, *lines, _thumb(f"resp_{start}"), _thumb(f"p{start + 1}"), "{broken")
    pauses = [str(3 + 7 * n) for n in range(20)]
    command = [sys.executable, "-c", DRIVER, str(spool), store_url, *pauses]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert int(done.stdout.splitlines()[-1]) >= 3, "hardly one was killed before it was through"
    engine = open_store(store_url)
    _ship(engine, spool)
    assert sealed(spool) == []
    assert (count(engine, TraceRow), count(engine, FeedbackRow)) == (1200, 80)
    assert count(engine, QuarantineRow) == 1  # the same bad line is one row
    engine.dispose()


def test_a_backlog_shrinks_while_traffic_comes_in(
    engine: Engine, tmp_path: Path, trace: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("loop_pipeline.gateway.capture.SEAL_SECONDS", 0.1)
    for start in range(0, 5000, 250):
        _segment(tmp_path, *(trace(i) for i in range(start, start + 250)))
    capture = Capture(tmp_path, sync_ms=50, max_bytes=1 << 40)
    ending, written = threading.Event(), []

    def traffic() -> None:
        while not ending.wait(0.005):  # 200 a second
            written.append(f"live{len(written)}")
            capture.write(trace(0, prompt_id=written[-1]))

    writer = threading.Thread(target=traffic)
    writer.start()
    before = backlog(tmp_path)
    end = time.monotonic() + 60
    while count(engine, TraceRow) < 5000 and time.monotonic() < end:
        _ship(engine, tmp_path)
    assert backlog(tmp_path) < before / 10
    ending.set()
    writer.join()
    capture.close()
    _ship(engine, tmp_path)
    assert count(engine, TraceRow) == 5000 + len(written)
