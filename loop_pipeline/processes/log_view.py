"""One view of many processes' logs: every line with the name of who said it.

Not here: the processes. Each writes to a file of its own, and one thread shows them: a terminal
that is stopped holds up nobody, and a view that is gone loses nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from loop_pipeline.masking import masked

# Of one file; then it becomes NAME.log.1 and a new one begins.
MOST_BYTES = 16 * 1024**2
# At most so much of a file is shown at a time.
READ_BYTES = 256 * 1024
LOOK_S = 0.1
# A terminal that is stopped is not waited for at the end.
PATIENCE_S = 5.0
COLOURS = (36, 32, 35, 34, 33, 96, 92, 95)
RESET = "\x1b[0m"
# Those of the processes themselves: some colour their lines whoever reads them.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Dagster says a dozen lines about each step of each run. The file has them, its page too, and here
# they would hide what happens. And it warns that the checkout's dagster.yaml is not used, at every
# start: dagster_home.py has made the one that is.
_DETAIL = re.compile(
    r"\d{4}-\d\d-\d\d [\d:]{8} \S+ - dagster\S* - "
    r"(DEBUG - |WARNING - Found a dagster instance configuration value)"
)


@dataclass
class _File:
    name: str
    path: Path
    place: int
    rest: bytes = b""


class LogView:
    """Shows what is appended to the files of some processes, from now on.

    Args:
        names: of the processes; the widest decides where the text begins.
        folder: each has a file ``NAME.log`` there.
        out: where it is shown; coloured if that is a terminal and NO_COLOR is not set.
    """

    def __init__(self, names: Sequence[str], folder: Path, out: TextIO | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out = out or sys.stdout
        self._width = max(map(len, names), default=0)
        self._colours = dict(zip(names, COLOURS * len(names), strict=False))
        self._coloured = self._out.isatty() and "NO_COLOR" not in os.environ
        paths = [(name, folder / f"{name}.log") for name in names]
        self._files = [_File(n, p, p.stat().st_size if p.exists() else 0) for n, p in paths]
        self._said: deque[str] = deque()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> LogView:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(PATIENCE_S)

    def say(self, name: str, text: str) -> None:
        """Show lines that are in no file."""
        start = f"{name:<{self._width}} |"
        if self._coloured:
            start = f"\x1b[{self._colours.get(name, 0)}m{start}{RESET}"
        for line in text.splitlines():
            self.plain(f"{start} {masked(_COLOUR.sub('', line))}")

    def plain(self, text: str) -> None:
        """Show text as it is, without a name."""
        self._said.append(f"{text}\n")

    def _follow(self) -> None:
        while not self._done.wait(LOOK_S) and self._show():
            pass
        self._show()
        for file in self._files:
            if file.rest:
                self._say_of(file, file.rest)
        self._show()

    def _say_of(self, file: _File, lines: bytes) -> None:
        text = _COLOUR.sub("", lines.decode(errors="replace"))
        self.say(file.name, "\n".join(x for x in text.splitlines() if not _DETAIL.match(x)))

    def _show(self) -> bool:
        """Show what is new; False if nobody looks any more."""
        for file in self._files:
            if lines := _new_lines(file):
                self._say_of(file, lines)
        try:
            while self._said:
                self._out.write(self._said.popleft())
            self._out.flush()
        except OSError:  # the terminal is gone; the files are not
            return False
        return True


def _new_lines(file: _File) -> bytes:
    """Whole lines that came since the last look."""
    try:
        size = file.path.stat().st_size
    except FileNotFoundError:
        return b""
    if size < file.place:  # it was begun anew
        file.place, file.rest = 0, b""
    if size == file.place:
        return b""
    with file.path.open("rb") as opened:
        opened.seek(file.place)
        found = opened.read(READ_BYTES)
    file.place += len(found)
    whole, newline, file.rest = (file.rest + found).rpartition(b"\n")
    if file.place >= MOST_BYTES:
        _turn_over(file)
    return whole + newline


def _turn_over(file: _File) -> None:
    """Begin a file anew. Who writes to it has it open: it is copied and cut, not renamed."""
    shutil.copyfile(file.path, file.path.with_name(f"{file.path.name}.1"))
    os.truncate(file.path, 0)
    file.place = 0
