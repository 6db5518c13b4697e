"""A frozen set is what was frozen, to the last byte, or nothing is trained on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.training.dataset.frozen_check import (
    FILES,
    DamagedSet,
    check_frozen,
    name_of,
)


def line(number: int) -> str:
    # A line separator inside an answer is no end of a row.
    said = "one\u2028two" if number == 3 else f"answer {number}"
    return json.dumps({"prompt_id": f"p{number}", "said": said}, ensure_ascii=False)


LINES = {
    "train": [line(i) for i in range(40)],
    "validation": [line(i) for i in range(40, 45)],
    "preferences": [line(i) for i in range(5)],
    "feedback": [],
}
NAME = name_of(LINES)


@pytest.fixture(params=[True, False], ids=["sizes noted", "an older set"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    facts: dict[str, Any] = {"sha256": NAME, "rows": {n: len(rows) for n, rows in LINES.items()}}
    sizes = {}
    for name, rows in LINES.items():
        content = "".join(row + "\n" for row in rows).encode()
        (tmp_path / f"{name}.jsonl").write_bytes(content)
        sizes[name] = {"bytes": len(content)}
    if request.param:
        facts["files"] = sizes
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    return tmp_path


def rewrite(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / name
        file.write_text(change(file.read_text("utf-8")), "utf-8")

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def facts(**fields: Any) -> Callable[[Path], None]:
    return rewrite("dataset.json", lambda text: json.dumps(json.loads(text) | fields))


def half(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:20])


def test_what_was_frozen_passes(folder: Path):
    check_frozen(folder, NAME)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (rewrite("train.jsonl", half), "train.jsonl has"),
        (rewrite("train.jsonl", lambda t: t[: len(t) // 2]), "train.jsonl"),
        (rewrite("train.jsonl", lambda t: t[:-1]), "train.jsonl"),
        (rewrite("train.jsonl", lambda t: t.replace("answer 7", "answer 8")), "another sha256"),
        (rewrite("train.jsonl", lambda t: t + line(99) + "\n"), "train.jsonl has"),
        (rewrite("train.jsonl", lambda _: ""), "train.jsonl has"),
        (rewrite("validation.jsonl", lambda t: t.replace("answer", "Answer")), "another sha256"),
        (rewrite("preferences.jsonl", lambda _: ""), "preferences.jsonl has"),
        (rewrite("feedback.jsonl", lambda _: line(1) + "\n"), "feedback.jsonl has"),
        (lambda folder: (folder / "train.jsonl").write_bytes(b"\xff\n"), "train.jsonl cannot"),
        *((remove(f"{name}.jsonl"), f"{name}.jsonl cannot be read") for name in FILES),
        (remove("dataset.json"), "dataset.json cannot be read"),
        (rewrite("dataset.json", lambda t: t[:-5]), "dataset.json cannot be read"),
        (rewrite("dataset.json", lambda _: "[]"), "dataset.json names another set"),
        (facts(sha256="0" * 64), "dataset.json names another set, 0000"),
        (facts(sha256=None), "dataset.json names another set"),
    ],
)
def test_any_change_is_said_in_one_line_that_names_the_file(folder, spoil, says):
    spoil(folder)
    with pytest.raises(DamagedSet, match=says) as caught:
        check_frozen(folder, NAME)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_that_was_exchanged_with_its_own_name_is_not_the_stores(folder: Path):
    changed = LINES | {"train": LINES["train"][:-1]}
    (folder / "train.jsonl").write_text("".join(r + "\n" for r in changed["train"]), "utf-8")
    rows = {name: len(part) for name, part in changed.items()}
    (folder / "dataset.json").write_text(json.dumps({"sha256": name_of(changed), "rows": rows}))
    check_frozen(folder, name_of(changed))
    with pytest.raises(DamagedSet, match="names another set"):
        check_frozen(folder, NAME)


def test_wrong_types_in_its_facts_are_no_crash(folder: Path):
    for odd in (5, [], "x", None, {"train": 5}, {"train": {"bytes": "many"}}):
        facts(files=odd, rows=odd)(folder)
        try:
            check_frozen(folder, NAME)
        except DamagedSet as error:
            assert "\n" not in str(error)
