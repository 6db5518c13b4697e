"""The page that names the file for a rule names every file, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "loop_pipeline"


def listed() -> set[str]:
    """Files that ``docs/architecture.md`` lists, relative to the package."""
    found: set[str] = set()
    folder: str | None = None
    for line in (ROOT / "docs" / "architecture.md").read_text("utf-8").splitlines():
        if heading := re.match(r"### (?:`([\w/]+)/`)?", line):
            folder = heading[1] and ("" if heading[1] == "loop_pipeline" else f"{heading[1]}/")
        elif folder is not None and (row := re.match(r"\| `([\w/.]+)` \| \S", line)):
            found.add(folder + row[1])
    return found


def test_every_file_of_the_package_has_its_line_and_no_line_is_of_a_file_that_is_gone() -> None:
    there = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "__init__.py"
    }
    migrations = {name for name in there if name.startswith("store/migrations/")}
    assert listed() == (there - migrations) | {"store/migrations/"}
