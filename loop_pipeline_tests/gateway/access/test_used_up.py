"""What a key has used up is counted over all workers, and survives what kills one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from loop_pipeline.gateway.access import used_up
from loop_pipeline.gateway.access.limits import Limits, OverLimit

LIMITS = {"parallel": 3, "per_minute": 40, "usd_per_day": 5.0}


def of_another_worker(path: Path, **limits: float) -> Limits:
    made = Limits(path)
    made.set(limits)
    return made


def _ask(path: Path, times: int, kind: str, results: multiprocessing.Queue) -> None:
    limits = of_another_worker(path, **{kind: LIMITS[kind]})
    done = 0
    for _ in range(times):
        try:
            limits.end(limits.begin(0.5), 0.5)
            done += 1
        except OverLimit:
            pass
    results.put(done)


def _hold(path: Path, ready: multiprocessing.Queue) -> None:
    limits = of_another_worker(path, parallel=3)
    limits.begin(0)
    limits.begin(0)
    ready.put(True)
    signal.pause()


@pytest.mark.parametrize(("kind", "most"), [("per_minute", 40), ("usd_per_day", 10)])
def test_workers_together_let_through_what_one_would(tmp_path: Path, kind: str, most: int) -> None:
    forked, results = multiprocessing.get_context("fork"), multiprocessing.Queue()
    workers = [
        forked.Process(target=_ask, args=(tmp_path / "key.json", 30, kind, results))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sum(results.get(timeout=5) for _ in workers) == most


def test_what_a_killed_worker_was_answering_is_no_longer_counted(tmp_path: Path) -> None:
    path, forked = tmp_path / "key.json", multiprocessing.get_context("fork")
    ready = forked.Queue()
    worker = forked.Process(target=_hold, args=(path, ready))
    worker.start()
    ready.get(timeout=30)
    own = of_another_worker(path, parallel=3)
    reserved = own.begin(0)
    with pytest.raises(OverLimit):
        own.begin(0)
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    used_up.forget(tmp_path, worker.pid)
    own.begin(0)
    own.begin(0)
    with pytest.raises(OverLimit):
        own.begin(0)
    own.end(reserved, 0)


def test_a_gateway_that_is_started_again_knows_what_was_spent_today(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    before = of_another_worker(path, parallel=1, usd_per_day=1.0)
    before.begin(0.8)
    used_up.start_anew(tmp_path)
    after = of_another_worker(path, parallel=1, usd_per_day=1.0)
    with pytest.raises(OverLimit, match="1 USD a day"):
        after.begin(0.3)
    after.begin(0.2)


def test_what_nobody_has_used_for_days_goes(tmp_path: Path) -> None:
    of_another_worker(tmp_path / "old.json", parallel=1).begin(0)
    os.utime(tmp_path / "old.json", (0, 0))
    used_up.start_anew(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"\0" * 4096, b"{", b"[1]", b'{"day": 1, "usd": "x"}'])
def test_a_torn_file_says_that_nothing_was_used(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(text)
    limits = of_another_worker(path, per_minute=1)
    limits.begin(0)
    with pytest.raises(OverLimit):
        limits.begin(0)


def test_where_the_file_cannot_be_written_a_worker_counts_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = of_another_worker(tmp_path / "no folder" / "key.json", per_minute=2)
    limits.begin(0)
    limits.begin(0)
    with pytest.raises(OverLimit):
        limits.begin(0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_file_never_outgrows_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.json"
    limits = of_another_worker(path, parallel=10**6)
    now = [10_000_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for number in range(64 * 4):
        monkeypatch.setattr("os.getpid", lambda number=number: 4_000_000 + number % 64)
        limits.begin(0)
        now[0] += 0.25
    assert path.stat().st_size == used_up.SIZE
    assert len(path.read_bytes().rstrip()) < used_up.SIZE
