from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.gateway import capture as module
from loop_pipeline.gateway import segments
from loop_pipeline.gateway.capture import Capture, CaptureLost
from loop_pipeline.gateway.segments import Segment, adopt, sealed

PLENTY = 1 << 40


def _lines(folder: Path) -> list[Any]:
    return [json.loads(line) for path in sealed(folder) for line in path.read_text().splitlines()]


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@contextlib.contextmanager
def _capturing(folder: Path, sync_ms: float = 5, max_bytes: int = PLENTY):
    capture = Capture(folder, sync_ms=sync_ms, max_bytes=max_bytes)
    try:
        yield capture
    finally:
        capture.close()


def test_a_line_is_in_the_file_as_soon_as_it_is_written_and_sealed_at_the_end(tmp_path: Path):
    with _capturing(tmp_path) as capture:
        capture.write({"n": 1, "text": "größer 👍"})
        [path] = tmp_path.glob("*.open")
        assert json.loads(path.read_bytes()) == {"n": 1, "text": "größer 👍"}
        assert path.stat().st_mode & 0o777 == 0o600
        capture.write({"n": 2})
    assert [line["n"] for line in _lines(tmp_path)] == [1, 2]
    assert not list(tmp_path.glob("*.open"))


def test_segments_are_sealed_by_size_and_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SEAL_BYTES", 200)
    monkeypatch.setattr(module, "SEAL_SECONDS", 0.2)
    with _capturing(tmp_path) as capture:
        for n in range(10):
            capture.write({"n": n, "text": "x" * 60})
        _until(lambda: len(sealed(tmp_path)) == 4)  # three by size, one by age
        assert [line["n"] for line in _lines(tmp_path)] == list(range(10))


def test_nobody_adopts_what_a_living_process_writes(tmp_path: Path):
    with _capturing(tmp_path) as capture:
        capture.write({"n": 1})
        assert adopt(tmp_path) == 0
        with _capturing(tmp_path):
            assert len(list(tmp_path.glob("*.open"))) == 1


def test_what_a_killed_process_wrote_is_adopted_whoever_has_its_id_now(tmp_path: Path):
    code = (
        "import sys, time; from pathlib import Path;"
        "from loop_pipeline.gateway.capture import Capture;"
        "capture = Capture(Path(sys.argv[1]), sync_ms=50, max_bytes=1 << 40);"
        "[capture.write({'n': n}) for n in range(500)]; print('written', flush=True);"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
    [path] = tmp_path.glob("*.open")
    # The id in its name is that of a process that lives: of this one.
    path.rename(tmp_path / f"20260101T000000.000000-{os.getpid()}-0.open")
    with _capturing(tmp_path):
        assert [line["n"] for line in _lines(tmp_path)] == list(range(500))


def test_an_adopter_that_comes_between_making_and_locking_takes_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock, adopted = segments._locked, []

    def late(fd: int) -> bool:
        if not adopted:
            adopted.append(True)
            monkeypatch.setattr(segments, "_locked", lock)
            adopt(tmp_path)
        return lock(fd)

    monkeypatch.setattr(segments, "_locked", late)
    segment = Segment(tmp_path)
    segment.append(b"{}\n")
    segment.seal()
    assert _lines(tmp_path) == [{}]


def test_a_full_disk_leaves_whole_lines_and_ends_when_space_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write, left = os.write, [30]

    def small_disk(fd: int, data: Any) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(fd, bytes(data)[: left[0]])
        left[0] -= taken
        return taken

    def no_probe(_: Capture) -> None:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _._works_again()

    monkeypatch.setattr(module.Capture, "_probe", no_probe)
    monkeypatch.setattr(segments.os, "write", small_disk)
    with _capturing(tmp_path) as capture:
        capture.write({"n": 1})
        with pytest.raises(CaptureLost, match="No space left"):
            capture.write({"n": 2, "text": "x" * 60})  # a part of it fits
        assert (capture.lost, capture.writable) == (1, False)
        [path] = tmp_path.glob("*.open")
        assert path.read_bytes() == b'{"n":1}\n'
        left[0] = 1 << 20
        _until(lambda: capture.writable)  # though nobody writes
        capture.write({"n": 3})
    assert [line["n"] for line in _lines(tmp_path)] == [1, 3]


def test_a_folder_that_cannot_be_written_costs_traces_not_the_process(tmp_path: Path):
    (tmp_path / "spool").write_text("in the way")
    with _capturing(tmp_path / "spool") as capture:
        assert not capture.writable
        with pytest.raises(CaptureLost):
            capture.write({"n": 1})
        (tmp_path / "spool").unlink()
        capture.write({"n": 2})
        assert (capture.writable, capture.lost) == (True, 1)
    assert [line["n"] for line in _lines(tmp_path / "spool")] == [2]


def test_a_backlog_over_its_limit_costs_the_oldest_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SEAL_BYTES", 1000)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    with _capturing(tmp_path, max_bytes=5000) as capture:
        for n in range(100):
            capture.write({"n": n, "text": "x" * 80})
        _until(lambda: capture.dropped > 0 and capture.backlog <= 5000)
        dropped = capture.dropped
    assert [line["n"] for line in _lines(tmp_path)] == list(range(dropped, 100))


def test_a_clock_that_is_set_back_does_not_mix_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = time.time_ns()
    times = iter([now, now - 3_600_000_000_000, now - 7_200_000_000_000])
    monkeypatch.setattr(segments.time, "time_ns", lambda: next(times))
    for n in range(3):
        segment = Segment(tmp_path)
        segment.append(json.dumps({"n": n}).encode() + b"\n")
        segment.seal()
    assert [line["n"] for line in _lines(tmp_path)] == [0, 1, 2]


def test_without_a_pause_between_syncs_an_answer_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    sync, asked = segments.os.fdatasync, threading.Event()

    def count(fd: int) -> None:
        asked.wait(60)  # until all have written: they come together, however fast the disk is
        sync(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(segments.os, "fdatasync", count)

    async def many(capture: Capture) -> None:
        async def one(n: int) -> None:
            capture.write({"n": n})
            size = sum(path.stat().st_size for path in tmp_path.glob("*.open"))
            await capture.synced()
            assert synced[-1] >= size

        waiting = asyncio.gather(*(one(n) for n in range(200)))
        await asyncio.sleep(0)
        asked.set()
        await waiting

    with _capturing(tmp_path, sync_ms=0) as capture:
        asyncio.run(many(capture))
    assert len(synced) < 10  # one sync for a group of answers


def test_whoever_waits_for_a_disk_that_does_not_work_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    sync = os.fdatasync
    monkeypatch.setattr(segments.os, "fdatasync", broken)
    with _capturing(tmp_path, sync_ms=0) as capture:
        capture.write({"n": 1})
        with pytest.raises(CaptureLost, match="not on the disk"):
            asyncio.run(capture.synced())
        monkeypatch.setattr(segments.os, "fdatasync", sync)
        asyncio.run(capture.synced())
    assert _lines(tmp_path) == [{"n": 1}]


def test_half_a_character_and_long_numbers_are_written_too(tmp_path: Path):
    with _capturing(tmp_path) as capture:
        capture.write({"text": "cut \ud83d", "whole": "\ud83d\udc4d", "n": 10**30})
    assert _lines(tmp_path) == [{"text": "cut \ufffd", "whole": "👍", "n": 10**30}]
