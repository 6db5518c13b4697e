"""Files of one step that another one reads: written whole or not at all, read whole or refused.

What is refused is refused in one sentence with file and line. Not here: where files lie
(``artifacts.py``), and lines of traffic, of which a bad one costs only itself (``traces``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; it takes its name once all of it is on the disk.

    A reader finds the old file or the new one, never half of one. Its name carries the process id,
    so that two writers do not write into the same part.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


class DamagedFile(ValueError):
    """A file is not what was written; one line that names it, and what to do."""


def read_object(path: Path, needed: Sequence[str] = (), *, mend: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        needed: fields that it has to have.
        mend: what to do if it is damaged.

    Raises:
        DamagedFile: it cannot be read, is no JSON object, or lacks a field.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read ({_said(error)}); {mend}") from error
    if not isinstance(found, dict):
        raise DamagedFile(f"{path} holds no JSON object but {type(found).__name__}; {mend}")
    if missing := [name for name in needed if name not in found]:
        raise DamagedFile(f"{path} lacks {', '.join(missing)}; {mend}")
    return found


def read_model(path: Path, kind: type[Model], *, mend: str) -> Model:
    """The object in a file as what it was written from.

    Raises:
        DamagedFile: it cannot be read, or is of something else.
    """
    found = read_object(path, mend=mend)
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedFile(f"{path}: {where}: {first['msg']}; {mend}") from error


def read_rows(path: Path, needed: Sequence[str] = (), *, mend: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a file, one a line.

    Args:
        path: the file.
        needed: fields that each has to have.
        mend: what to do if it is damaged.

    Raises:
        DamagedFile: the file cannot be read, or a line is no such object; names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be read ({_said(error)}); {mend}") from error
    # Not splitlines: an answer may hold a line separator of its own.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DamagedFile(f"{path}:{number}: no JSON ({_said(error)}); {mend}") from error
        if not isinstance(row, dict):
            raise DamagedFile(f"{path}:{number}: no JSON object; {mend}")
        if missing := [name for name in needed if name not in row]:
            raise DamagedFile(f"{path}:{number}: it lacks {missing[0]}; {mend}")
        yield row


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"{error}".partition("\n")[0] or repr(error)
