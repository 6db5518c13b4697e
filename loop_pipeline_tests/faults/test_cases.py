"""Every file of a folder of odd records through the steps of a day, among sound neighbours.

The folder is named by LOOP_CASES and lies beside the repository; a file that is dropped there is
taken through all steps. What has to come out of a file that is known is said in
``case_outcomes.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import Engine

from loop_pipeline.routing.router import Router
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import TraceRow
from loop_pipeline.traces.importers.import_files import UnreadableFile
from loop_pipeline.training.dataset import frozen_set
from loop_pipeline_tests.faults.case_outcomes import RIGHT
from loop_pipeline_tests.faults.case_stages import (
    NEIGHBOURS,
    Day,
    import_with_neighbours,
    reasons,
    whole_day,
)
from loop_pipeline_tests.faults.case_student import report_text, routed, store_labels
from loop_pipeline_tests.routing.conftest import World

CASES = Path(os.environ.get("LOOP_CASES") or Path(__file__).parents[3] / "shared" / "cases")
SUFFIXES = (".jsonl", ".json", ".gz")
# Of files that are no traffic: they are for other stages.
OTHERS = ("adapters.list", "models_reply", "positive_logprob", "sheet_one_bad_line")
FILES = sorted(
    path
    for folder in (CASES, CASES / "faults")
    if folder.is_dir()
    for path in folder.iterdir()
    if path.suffix in SUFFIXES and not path.name.startswith(OTHERS)
)
GOOD = ("good-", "sound-")


@pytest.fixture(scope="session")
def router() -> Router:
    world = World()
    return Router.load(world.fit(), world.embedder)


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_set, "MIN_ROWS", 1)


@pytest.mark.skipif(not FILES, reason=f"no cases in {CASES}: name their folder in LOOP_CASES")
@pytest.mark.parametrize("case", FILES, ids=[path.name for path in FILES])
@pytest.mark.usefixtures("small_sets")
def test_a_file_of_odd_records_comes_out_right_and_harms_no_neighbour(
    engine: Engine, tmp_path: Path, case: Path, router: Router
) -> None:
    try:
        import_with_neighbours(engine, case, tmp_path)
    except UnreadableFile as error:
        assert case.name in str(error)
        assert reasons(engine) == []
        assert len(read(engine, TraceRow)) == NEIGHBOURS
        return
    day = whole_day(engine, tmp_path)
    _neighbours_are_sound(day, case)
    _neighbours_are_served(engine, day, router)
    failed = [
        n for n, check in enumerate(RIGHT.get(case.name.partition(".")[0], ())) if not check(day)
    ]
    assert failed == []


def _neighbours_are_sound(day: Day, case: Path) -> None:
    """All that is sound is stored, flagged, scored, grouped and, where it was liked, learned."""
    sound = [f"sound-{number}" for number in range(NEIGHBOURS)]
    named = [p for p in _ids(case) if p.startswith(GOOD)]
    for frame in (day.traces, day.flags, day.signals, day.scores, day.members):
        assert not {*sound, *named} - set(frame["prompt_id"])
    for prompt_id in sound:
        assert day.kinds(prompt_id) == {"sft", "kto_pos"}
    assert set(sound) <= {row["prompt_id"] for row in day.rows}
    assert all(isinstance(turn["content"], str) for row in day.rows for turn in row["prompt"])


def _neighbours_are_served(engine: Engine, day: Day, router: Router) -> None:
    """A student's sure answer to a sound request goes out; the report counts every trace."""
    settled = routed(router, day.traces, "aa")
    assert not [p for p, found in settled.items() if found.reason.startswith("the router failed")]
    for number in range(NEIGHBOURS):
        assert settled[f"sound-{number}"].action == "serve"
    store_labels(engine, day)
    held = int(day.quarantine["prompt_id"].isna().sum())
    text = report_text(engine)
    assert f"{len(day.traces)} answers over " in text
    assert f"; {held} lines could not be read; " in text


def _ids(case: Path) -> list[str]:
    """Prompt ids of the lines that can be read at all."""
    found = []
    for line in case.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line)["prompt_id"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return [name for name in found if isinstance(name, str)]
