"""Habits of templates as files, so that live answers are judged as a day's answers were.

Not here: learning them (``wording_habit.py``). Written by the daily step, read by the gateway: a
file a template, as two days may be worked on at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from loop_pipeline.labels.hallucination.habits.wording_habit import Habit
from loop_pipeline.whole_file import write_whole

FOLDER = "habits"

_log = logging.getLogger(__name__)


class HabitFile(BaseModel):
    """A habit, and of when it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    template_hash: str
    until: str
    """The newest day that it was learned from."""
    detector: str
    habit: Habit


def write_habits(folder: Path, habits: Mapping[str, Habit], *, until: str, detector: str) -> int:
    """Keep what was learned of templates; an older day does not replace a newer one.

    Args:
        folder: made if it is missing.
        habits: by template hash; those that nothing was learned for are left out.
        until: the newest day they were learned from.
        detector: its version, which scored the answers.

    Returns:
        How many files were written.
    """
    written = 0
    for template, habit in habits.items():
        path = folder / f"{template}.json"
        if not habit.sources or not template.isalnum():
            continue
        known = _read(path) if path.is_file() else None
        if known is not None and known.until > until:
            continue
        file = HabitFile(template_hash=template, until=until, detector=detector, habit=habit)
        plain = file.model_dump()
        plain["habit"] |= {name: sorted(plain["habit"][name]) for name in ("form", "common")}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(plain, ensure_ascii=False, sort_keys=True) + "\n")
        written += 1
    return written


def read_habits(folder: Path, detector: str) -> dict[str, Habit]:
    """Habits by template hash, of those that were learned with this detector.

    A file that cannot be used is said and left out: its template is judged as an unknown one.
    """
    found = (_read(path) for path in sorted(folder.glob("*.json")))
    return {f.template_hash: f.habit for f in found if f is not None and f.detector == detector}


def _read(path: Path) -> HabitFile | None:
    try:
        return HabitFile.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        kind = type(error).__name__
        _log.warning("%s is no habit file (%s); hallucination_flags writes it anew", path, kind)
        return None
