from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loop_pipeline.demo import size
from loop_pipeline.demo.size import IDLE_TOKENS_PER_SECOND, SIZES, choose, seconds, size_for

IDLE = float(IDLE_TOKENS_PER_SECOND)


def test_two_idle_cores_take_about_six_minutes_for_the_whole() -> None:
    assert choose(IDLE) == SIZES[0]
    assert 5 * 60 <= seconds(SIZES[0], IDLE) <= 7 * 60


def test_at_half_of_them_the_whole_still_takes_at_most_a_quarter_of_an_hour() -> None:
    assert choose(IDLE / 2) == SIZES[0]
    assert seconds(SIZES[0], IDLE / 2) <= 15 * 60


def test_the_slower_the_machine_the_smaller_the_demo() -> None:
    chosen = [choose(IDLE / slower) for slower in (1, 2, 3, 4, 100)]
    assert [c.requests for c in chosen] == sorted((c.requests for c in chosen), reverse=True)
    assert chosen[-1] == SIZES[-1]
    assert all(seconds(c, IDLE / s) <= 900 for c, s in zip(chosen, (1, 2, 3), strict=False))


def test_the_size_is_measured_once_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = iter([IDLE / 3])
    monkeypatch.setattr(size, "measure", lambda _: next(speeds))
    first, said = size_for(tmp_path / "size.json", Path(sys.executable))
    assert first.requests < SIZES[0].requests
    assert f"{first.requests:,} requests are simulated" in said
    assert "less than the 12,000 of an idle machine" in said
    assert size_for(tmp_path / "size.json", Path(sys.executable)) == (first, said)


def test_the_real_step_is_measured() -> None:
    pytest.importorskip("trl")
    assert size.measure(Path(sys.executable)) > 0


def test_an_interpreter_that_cannot_train_says_so(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no torch here >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match="cannot train: no torch here"):
        size.measure(python)
