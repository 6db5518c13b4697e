"""What an earlier step wrote is read whole, or refused in a sentence with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from loop_pipeline.whole_file import DamagedFile, read_model, read_object, read_rows


class Figure(BaseModel):
    n: int


DAMAGED = {
    "cut off": b'{"n": 1',
    "not UTF-8": b'{"n": "\xff"}',
    "deep": b"[" * 100_000,
    "another document": b"[1]",
    "a number": b"7",
    "another object": b'{"m": 1}',
    "a web page": b"<html></html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "half of it zeros": b'{"n": 1}\0\0\0',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_sentence_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as one:
        read_object(path, ("n",), mend="make it anew")
    with pytest.raises(DamagedFile) as other:
        read_model(path, Figure, mend="make it anew")
    for said in map(str, (one.value, other.value)):
        assert said.startswith(str(path))
        assert said.endswith("make it anew")
        assert "\n" not in said


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_of_rows_the_line_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": "one\xe2\x80\xa8line"}\n{"n": 2}\n' + content + b"\n")
    with pytest.raises(DamagedFile, match="make it anew") as refused:
        list(read_rows(path, ("n",), mend="make it anew"))
    named = f"{path}:3: " if b"\xff" not in content else f"{path} cannot be read"
    assert str(refused.value).startswith(named)


def test_what_is_sound_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"n": 1, "said": "one\u2028two\x85"}, {"n": 2}]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    assert list(read_rows(path, ("n",), mend="")) == rows
    path.write_text('{"n": 3}')
    assert read_object(path, mend="") == {"n": 3}
    assert read_model(path, Figure, mend="").n == 3
    path.write_bytes(b"")
    assert list(read_rows(path, mend="")) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="No such file"):
        read_object(tmp_path / "gone.json", mend="make it")
