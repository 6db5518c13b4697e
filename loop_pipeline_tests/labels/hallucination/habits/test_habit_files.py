"""What a day learned of a template is there for live answers, and damage is not obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop_pipeline.labels.hallucination.habits.habit_files import read_habits, write_habits
from loop_pipeline.labels.hallucination.habits.wording_habit import UNKNOWN, Habit

KNOWN = Habit(told="source", unrelated_from=0.86, form=frozenset({"customer", "ask"}), sources=300)


def write(folder: Path, habit: Habit, until: str = "2026-09-04") -> int:
    return write_habits(folder, {"abc": habit}, until=until, detector="d1")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert write(tmp_path, KNOWN) == 1
    found = read_habits(tmp_path, "d1")
    assert found == {"abc": KNOWN}
    assert found["abc"].version == KNOWN.version


def test_an_older_day_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    write(tmp_path, KNOWN)
    assert write(tmp_path, Habit(told="words", sources=80), until="2026-09-03") == 0
    assert read_habits(tmp_path, "d1")["abc"] == KNOWN
    assert write(tmp_path, Habit(told="words", sources=80), until="2026-09-05") == 1
    assert read_habits(tmp_path, "d1")["abc"].told == "words"


def test_nothing_learned_is_nothing_written(tmp_path: Path) -> None:
    assert write(tmp_path / "new", UNKNOWN) == 0
    assert read_habits(tmp_path / "new", "d1") == {}


def test_another_detector_and_damage_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, KNOWN)
    assert read_habits(tmp_path, "d2") == {}
    (tmp_path / "abc.json").write_text('{"habit": 5')
    assert read_habits(tmp_path, "d1") == {}
    assert "abc.json is no habit file" in caplog.text
    assert write(tmp_path, KNOWN) == 1
    assert read_habits(tmp_path, "d1") == {"abc": KNOWN}
