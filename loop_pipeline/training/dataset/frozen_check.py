"""Whether a frozen training set is still what was frozen: every file, to the last byte.

Not here: freezing it (``frozen_set.py``). The training process checks here before it reads a row,
the blocking check of Dagster before anything is trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loop_pipeline.hashing import digest

FILES = ("train", "validation", "preferences", "feedback")
FACTS = "dataset.json"


class DamagedSet(ValueError):
    """A training set is not what was frozen; one line that names the file."""


def name_of(lines: dict[str, list[str]]) -> str:
    """The id of a training set, from the lines of its files."""
    return digest(*(part for name in FILES for part in (f"|{name}|", *lines[name])))


def check_frozen(folder: Path, dataset_id: str) -> None:
    """Make sure that a training set is the one that was frozen under this id.

    Args:
        folder: of the set.
        dataset_id: as the store has it. What the folder says of itself does not count: whoever
            changes a file can change that, too.

    Raises:
        DamagedSet: a file is missing, cut off or changed.
    """
    facts = _facts(folder / FACTS)
    if facts.get("sha256") != dataset_id:
        raise _damaged(folder, f"{FACTS} names another set, {facts.get('sha256')!s:.16}")
    sizes, rows = _object(facts.get("files")), _object(facts.get("rows"))
    lines = {name: _lines(folder, name, _object(sizes.get(name)).get("bytes")) for name in FILES}
    for name in FILES:
        if name in rows and rows[name] != len(lines[name]):
            said = f"{name}.jsonl has {len(lines[name])} rows, {rows[name]} were frozen"
            raise _damaged(folder, said)
    if name_of(lines) != dataset_id:
        raise _damaged(folder, "the content of its files has another sha256")


def _lines(folder: Path, name: str, size: Any) -> list[str]:
    """Lines of a file, which has its size of when the set was frozen, if that was noted."""
    try:
        content = (folder / f"{name}.jsonl").read_bytes()
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{name}.jsonl cannot be read ({error})") from error
    if size is not None and size != len(content):
        raise _damaged(folder, f"{name}.jsonl has {len(content)} bytes, {size} were frozen")
    if text and not text.endswith("\n"):
        raise _damaged(folder, f"{name}.jsonl is cut off in its last line")
    # Not splitlines: an answer may hold a line separator of its own.
    return text.split("\n")[:-1]


def _facts(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path.parent, f"{FACTS} cannot be read ({error})") from error
    return _object(found)


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _damaged(folder: Path, said: str) -> DamagedSet:
    return DamagedSet(
        f"training set {folder} is not what was frozen: {said}; nothing is trained on it,"
        " materialize training_set to write it anew"
    )
