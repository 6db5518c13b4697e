"""Two imports at once that claim the same ids: no answer is lost, no review moves to another."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from loop_pipeline_tests.faults.conflicting_imports import Outcome, two_at_once


def _all_is_there(found: Outcome) -> None:
    assert (found.lost, found.moved) == (0, 0)
    assert found.stored == found.told_new == found.quarantined == found.reviews == found.ids


def test_two_imports_at_once_lose_no_answer_and_move_no_review(
    engine: Engine, store_url: str, tmp_path: Path
) -> None:
    engine.dispose()
    _all_is_there(two_at_once(store_url, tmp_path, 2500))


@pytest.mark.slow
def test_two_imports_of_twelve_thousand_at_once(
    engine: Engine, store_url: str, tmp_path: Path
) -> None:
    engine.dispose()
    _all_is_there(two_at_once(store_url, tmp_path, 12_000))
