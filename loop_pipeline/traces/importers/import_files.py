"""Opening a file that somebody hands in, whatever it is packed in.

Not here: its lines (``jsonl.py``).

Lines are read one by one. A file that is one JSON document (an array, or objects over several
lines) is read whole. What is neither is refused in one sentence, and nothing of it is quarantined.
"""

from __future__ import annotations

import bz2
import codecs
import datetime as dt
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from loop_pipeline.traces.importers.foreign import foreign_format
from loop_pipeline.traces.importers.jsonl import BadLine, Record, bad_line, parse_line, read_lines
from loop_pipeline.traces.storable import MOST_LINE_BYTES

PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
NOT_READ = {
    b"version https://git-lfs": "a Git LFS pointer in place of the data; fetch it: git lfs pull",
    b"PK\x03\x04": "a zip archive; unpack it, and import the files in it",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it: zstd -d",
    b"PAR1": "a Parquet file; write its rows as JSON lines",
    b"SQLite format 3\0": "a SQLite database; write its rows as JSON lines",
}
WIDE = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"))
WIDE += ((codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_BE, "utf-16"))
HEAD = 4096
# A document is read whole; its values take several times as much memory.
MOST_DOCUMENT_BYTES = 256 * 1024**2
# Bad lines that are held back until a good one says that the file is one of ours.
HELD_BACK = 1000
# No count of a trace has so many digits, and Python refuses to read thousands of them.
MOST_DIGITS = 100
OURS = ('"messages"', '"prompt_id"')
FORMAT = "one JSON object a line is needed, as docs/reference/trace-format.md has it"


class UnreadableFile(ValueError):
    """What was handed in is no file of traces and feedback; names it, and says what to do."""


def read_file(path: Path, zone: dt.tzinfo = dt.UTC) -> Iterator[tuple[int, Record]]:
    """Yield (line number, record) of a file; of a document, the number of the object.

    Args:
        path: the file.
        zone: of times that name none.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it is no file of traces and feedback.
    """
    try:
        yield from _read(path, zone)
    except ValueError as error:
        raise UnreadableFile(f"{path}: {error}") from None


def _read(path: Path, zone: dt.tzinfo) -> Iterator[tuple[int, Record]]:
    if path.exists() and not path.is_file():
        raise ValueError("no file but a folder or a pipe; name the files themselves")
    with path.open("rb") as raw:
        head = raw.read(HEAD)
        raw.seek(0)
        if not head.strip():
            raise ValueError("the file is empty")
        for mark, what in NOT_READ.items():
            if head.startswith(mark):
                raise ValueError(what)
        opener = next((o for mark, o in PACKED.items() if head.startswith(mark)), None)
        with opener(raw, "rb") if opener else raw as file:
            yield from _refused_if_foreign(_unpacked(file, zone))


def _unpacked(file: IO[bytes], zone: dt.tzinfo) -> Iterator[tuple[int, Record]]:
    number = 0
    try:
        for number, record in _lines_or_document(_as_utf8(file), zone):
            yield number, record
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"damaged after line {number} ({error}); what stood before is imported, get it anew"
        ) from None


def _as_utf8(file: IO[bytes]) -> io.BufferedReader:
    """The file itself, or its text in UTF-8 where it has the mark of another encoding."""
    buffered = io.BufferedReader(file)  # pyright: ignore[reportArgumentType]
    head = buffered.peek(4)[:4]
    wide = next((name for mark, name in WIDE if head.startswith(mark)), None)
    if wide is None:
        return buffered
    return io.BufferedReader(io.BytesIO(_decoded(buffered.read(), wide)))  # pyright: ignore


def _decoded(raw: bytes, encoding: str) -> bytes:
    return raw.decode(encoding, errors="replace").encode("utf-8", errors="replace")


def _lines_or_document(file: io.BufferedReader, zone: dt.tzinfo) -> Iterator[tuple[int, Record]]:
    first = file.peek(HEAD).removeprefix(codecs.BOM_UTF8).lstrip()
    line = first.partition(b"\n")[0].strip()
    whole_line = b"\n" in first and _is_json(line)
    if first[:1] != b"[" and (first[:1] != b"{" or whole_line or len(line) > HEAD // 2):
        yield from read_lines(file, zone)
        return
    text = file.read(MOST_DOCUMENT_BYTES + 1)
    if len(text) > MOST_DOCUMENT_BYTES:
        yield from read_lines(_Joined(text, file), zone)
        return
    found, error = _document(text)
    if error and (found == [] or any(_is_json(part) for part in text.split(b"\n")[1:])):
        if not any(_is_object(part) for part in text.split(b"\n")):
            raise ValueError(f"JSON that cannot be read ({error}); {FORMAT}")
        yield from read_lines(io.BufferedReader(io.BytesIO(text)), zone)  # pyright: ignore
        return
    for number, value in enumerate(found, start=1):
        for record in parse_line(json.dumps(value).encode(), zone):
            yield number, record
    if error:
        yield len(found) + 1, bad_line(b"", f"the rest of the document cannot be read: {error}")


class _Joined(io.RawIOBase):
    """What was read already, and then the rest of the file; lines only."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self._start, self._rest = io.BytesIO(start), rest

    def readline(self, size: int | None = -1, /) -> bytes:
        """The next line, also the one that lies in both parts."""
        most = -1 if size is None else size
        line = self._start.readline(most)
        if line.endswith(b"\n") or len(line) == most:
            return line
        return line + self._rest.readline(most - len(line) if most >= 0 else -1)


def _document(raw: bytes) -> tuple[list[Any], str | None]:
    """The objects of a document, an array's elements each, and why it ends early."""
    text = raw.decode("utf-8-sig", errors="replace").strip()
    decoder = json.JSONDecoder(parse_int=_integer)
    found: list[Any] = []
    place = 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except RecursionError:
            return found, "nested too deep"
        except ValueError as error:
            return found, str(error)
        found += value if isinstance(value, list) else [value]
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
    return found, None


def _integer(digits: str) -> int | float:
    # One number of thousands of digits must not cost the other elements.
    return int(digits) if len(digits) <= MOST_DIGITS else float("inf")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(line: bytes) -> bool:
    line = line.strip()
    return len(line) <= MOST_LINE_BYTES and line[:1] == b"{" and _is_json(line)


def _refused_if_foreign(records: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
    """The records, once one of them, or what a bad line looks like, says that they are ours.

    Raises:
        ValueError: no line is a trace or feedback; names the format, if it is a known one.
    """
    held: list[tuple[int, BadLine]] = []
    for number, record in records:
        if not isinstance(record, BadLine):
            yield from held
            yield number, record
            yield from records
            return
        held.append((number, record))
        if len(held) > HELD_BACK:
            break
    if not held:
        raise ValueError("the file is empty")
    named = [foreign_format(record.raw) for _, record in held]
    if all(named):
        kinds = "; ".join(dict.fromkeys(name for name in named if name))
        nothing = f"none of its {len(held)} lines is a trace or feedback"
        raise ValueError(f"{nothing}; it looks like {kinds}")
    if not any(_looks_ours(record, name) for (_, record), name in zip(held, named, strict=True)):
        why = next((name for name in named if name), held[0][1].reason)
        raise ValueError(
            f"none of its {len(held)} lines is a trace or feedback; the first: {why}; {FORMAT}"
        )
    yield from held
    yield from records


def _looks_ours(record: BadLine, foreign: str | None) -> bool:
    return not foreign and any(name in record.raw for name in OURS)


def files_in(paths: Iterable[Path]) -> list[Path]:
    """The files that are meant: those that are named, and all that lie in folders.

    Hidden files are passed over, and those of other kinds than data are refused when they are read.

    Raises:
        FileNotFoundError: a folder holds no file.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(one for one in path.rglob("*") if one.is_file() and not _hidden(one, path))
        if not below:
            raise FileNotFoundError(f"{path}: a folder without a file to import")
        found += below
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
