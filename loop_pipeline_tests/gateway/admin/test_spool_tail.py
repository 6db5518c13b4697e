"""The tail of the spool: each line once, the newest first, whatever becomes of the files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import orjson
from pytest import MonkeyPatch

from loop_pipeline.gateway.admin import spool_tail
from loop_pipeline.gateway.admin.spool_tail import BLOCK_LINES, SpoolTail
from loop_pipeline_tests.gateway.admin.live_store import line, spool

NOW = dt.datetime.now(dt.UTC)


def requests(tail: SpoolTail) -> int:
    return sum(sums.requests for sums in tail.pending()[0].values())


def test_a_growing_file_is_read_once_though_it_is_sealed_meanwhile(tmp_path: Path) -> None:
    tail, segment = SpoolTail(tmp_path), spool(tmp_path, [line("a", NOW, "student")])
    whole = orjson.dumps(line("b", NOW, "frontier"))
    segment.append(whole[:100])
    tail.look()
    assert requests(tail) == 1
    segment.append(whole[100:] + b"\n")
    tail.look()
    segment.append(orjson.dumps(line("c", NOW, "frontier")) + b"\n")
    segment.seal()
    tail.look()
    backlog = tail.look()
    assert requests(tail) == 3
    assert (backlog.segments, backlog.unread) == (1, 0)
    assert backlog.oldest_s is not None
    assert 0 <= backlog.oldest_s < 60
    assert tail.trace("b") == line("b", NOW, "frontier")


def test_of_a_large_backlog_the_newest_is_read_first_and_the_rest_is_named(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    for name in ("old", "new"):
        spool(tmp_path, [line(f"{name}{i}", NOW, "frontier") for i in range(50)], sealed=True)
    most = sum(path.stat().st_size for path in tmp_path.iterdir()) * 3 // 4
    monkeypatch.setattr(spool_tail, "MOST_BYTES", most)
    tail = SpoolTail(tmp_path)
    assert tail.look().unread > 0
    assert tail.trace("new0") is not None
    assert tail.trace("old49") is None
    assert tail.look().unread == 0
    assert requests(tail) == 100


def test_what_the_store_has_is_not_counted_again_block_by_block(tmp_path: Path) -> None:
    rows = [line(f"p{i}", NOW, "frontier") for i in range(BLOCK_LINES + 10)]
    segment = spool(tmp_path, rows)
    tail = SpoolTail(tmp_path)
    tail.look()
    last = [block.last_id for block in tail.blocks]
    assert last == [f"p{BLOCK_LINES - 1}", f"p{BLOCK_LINES + 9}"]
    tail.in_store([f"p{BLOCK_LINES - 1}"])
    assert requests(tail) == 10
    # Dropped, as the spool was too large: nobody has these any more.
    segment.path.unlink()
    tail.look()
    tail.in_store([])
    assert requests(tail) == 0


def test_memory_stays_bounded_however_much_passes(tmp_path: Path) -> None:
    tail = SpoolTail(tmp_path)
    for part in range(3):
        rows = [line(f"p{part}-{i}", NOW, "frontier") for i in range(spool_tail.LISTED)]
        spool(tmp_path, rows, sealed=True)
        tail.look()
    assert len(tail.newest()) <= 2 * spool_tail.LISTED


def test_a_folder_that_is_not_there_yet_is_an_empty_spool(tmp_path: Path) -> None:
    assert SpoolTail(tmp_path / "spool").look().segments == 0
