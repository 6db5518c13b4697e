"""Whatever a file is packed in, its traces come in, or one sentence says what to do."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import count
from loop_pipeline.store.tables import QuarantineRow
from loop_pipeline.traces.importers.import_files import UnreadableFile
from loop_pipeline.traces.ingest import import_file

Make = Callable[..., dict[str, Any]]


def _lines(trace: Make, number: int = 3) -> bytes:
    return b"".join(json.dumps(trace(n)).encode() + b"\n" for n in range(number))


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.decode().encode("utf-16"),
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\n\n" + raw,
        lambda raw: b"[" + raw.strip().replace(b"\n", b",") + b"]",
        lambda raw: json.dumps([json.loads(s) for s in raw.splitlines()], indent=1).encode(),
        lambda raw: b"\n".join(
            json.dumps(json.loads(line), indent=2).encode() for line in raw.splitlines()
        ),
    ],
)
def test_traces_come_in_however_they_are_packed(
    engine: Engine, trace: Make, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "traffic"
    path.write_bytes(pack(_lines(trace)))
    done = import_file(engine, path)
    assert (done.traces, done.quarantined) == (3, 0)
    assert import_file(engine, path).traces_known == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "git lfs pull"),
        (b"PK\x03\x04rest", "unpack"),
        (b"PAR1rest", "Parquet"),
        (b"prompt,answer\na,b\n", "none of its 2 lines is a trace"),
        (b'{"question": 1}\n{"question": 2}\n', "none of its 2 lines is a trace"),
        (b'{\n "a": [1,\n 2\n', "cannot be read"),
        (b"\x00\x01\x02", "none of its 1 lines"),
    ],
)
def test_what_is_no_traffic_is_refused_in_one_sentence_and_nothing_is_quarantined(
    engine: Engine, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=said) as refused:
        import_file(engine, path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert count(engine, QuarantineRow) == 0


def test_a_pipe_is_not_waited_for(engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UnreadableFile, match="folder or a pipe"):
            import_file(engine, path)


def test_a_damaged_archive_keeps_what_was_read(engine: Engine, trace: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(_lines(trace, 5000))[:-2000])
    with pytest.raises(UnreadableFile, match="damaged after line"):
        import_file(engine, path)


@pytest.mark.parametrize("first", [b"[]", b"[1, 2", b"{", b'{"a":', b"null", b"\xff\xfe\xfd"])
def test_a_broken_first_line_costs_no_line_behind_it(
    engine: Engine, trace: Make, tmp_path: Path, first: bytes
) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(first + b"\n" + _lines(trace))
    if first.startswith(b"\xff\xfe"):
        with pytest.raises(UnreadableFile):
            import_file(engine, path)
        return
    assert import_file(engine, path).traces == 3


def test_one_number_of_an_array_costs_its_own_element(
    engine: Engine, trace: Make, tmp_path: Path
) -> None:
    path = tmp_path / "all.json"
    huge = json.dumps([trace(0), trace(1, tokens_in=1), trace(2)])
    path.write_text(huge.replace('"tokens_in": 1', '"tokens_in": ' + "9" * 6000))
    done = import_file(engine, path)
    assert (done.traces, done.quarantined) == (2, 1)
