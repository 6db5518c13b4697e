"""The view of many logs: whole lines, names, colours only for a terminal, files of bounded size."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loop_pipeline.processes import log_view
from loop_pipeline.processes.log_view import LogView


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _wait(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_lines_come_whole_and_with_their_names(tmp_path: Path) -> None:
    out = io.StringIO()
    _append(tmp_path / "gateway.log", "of an earlier run\n")
    with LogView(["loop", "gateway"], tmp_path, out) as view:
        _append(tmp_path / "gateway.log", "half of a ")
        view.say("loop", "one\ntwo")
        _wait(lambda: "two" in out.getvalue())
        _append(tmp_path / "gateway.log", "line\nthe \x1b[32mend\x1b[0m")
    assert out.getvalue().splitlines() == [
        "loop    | one",
        "loop    | two",
        "gateway | half of a line",
        "gateway | the end",
    ]


def test_a_terminal_gets_colours_unless_it_wants_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for coloured in (True, False):
        out = Terminal()
        with LogView(["a", "b"], tmp_path, out) as view:
            view.say("b", "text")
        assert ("\x1b[" in out.getvalue()) == coloured
        monkeypatch.setenv("NO_COLOR", "1")


def test_no_password_of_an_address_is_shown(tmp_path: Path) -> None:
    out = io.StringIO()
    with LogView(["a"], tmp_path, out):
        _append(tmp_path / "a.log", "cannot reach postgresql://ann:hunter2@db/x\n")
    assert "hunter2" not in out.getvalue()


def test_a_file_that_has_grown_large_begins_anew_and_the_old_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_view, "MOST_BYTES", 1000)
    out, path = io.StringIO(), tmp_path / "a.log"
    with path.open("a") as writer, LogView(["a"], tmp_path, out):
        writer.write("x" * 1200 + "\n")
        writer.flush()
        _wait(lambda: path.stat().st_size == 0)
        writer.write("after\n")
        writer.flush()
        _wait(lambda: "after" in out.getvalue())
        assert path.read_text() == "after\n"
    assert len((tmp_path / "a.log.1").read_text()) == 1201


def test_a_terminal_that_is_gone_stops_the_view_and_nothing_else(tmp_path: Path) -> None:
    out = io.StringIO()

    def refuse(_: str) -> int:
        raise BrokenPipeError

    out.write = refuse
    with LogView(["a"], tmp_path, out) as view:
        view.say("a", "text")
        time.sleep(0.2)
        view.say("a", "more")


# As Dagster wrote them under `loop up --demo`, to a file and to a terminal.
RUN = "label_traces - f4e161e6-820a-4c52-85fb-af9066e0dbd4 - 2740"
OF_DAGSTER = f"""\
\x1b[32m2026-11-28 04:41:01 +0000\x1b[0m - dagster.daemon.EventLogConsumerDaemon - \x1b[34mWARNING\
\x1b[0m - No cursor for event type DagsterEventType.RUN_FAILURE, ignoring older events
\x1b[32m2026-11-28 04:41:02 +0000\x1b[0m - dagster - \x1b[34mWARNING\x1b[0m - Found \
a dagster instance configuration value (dagster.yaml) in the current folder, but
2026-11-28 04:44:03 +0000 - dagster - DEBUG - {RUN} - RUN_START - Started execution of run.
\x1b[32m2026-11-28 04:44:23 +0000\x1b[0m - dagster - \x1b[34mDEBUG\x1b[0m - {RUN} - raw_traces - \
STEP_SUCCESS - Finished execution of step "raw_traces" in 255ms.
2026-11-28 04:44:24 +0000 - dagster - INFO - {RUN} - 12 traces of 2 days, DEBUG - of no kind
2026-11-28 04:44:25 +0000 - dagster - ERROR - {RUN} - STEP_FAILURE - Execution of step failed.
  File "x.py", line 3
"""


def test_what_dagster_says_of_each_step_stays_in_its_file(tmp_path: Path) -> None:
    out, path = io.StringIO(), tmp_path / "dagster.log"
    with LogView(["dagster"], tmp_path, out):
        _append(path, OF_DAGSTER)
        _append(path, f"2026-11-28 04:44:26 +0000 - dagster - DEBUG - {RUN} - the last, half")
    shown = out.getvalue().splitlines()
    assert [line.split(" - ")[2] for line in shown[:3]] == ["WARNING", "INFO", "ERROR"]
    assert shown[3:] == ['dagster |   File "x.py", line 3']
    assert path.read_text().count("DEBUG") == 4
