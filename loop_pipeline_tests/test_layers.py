"""The tree explains itself: imports go down, names are used once, rooms and files stay small."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "loop_pipeline"
MOST_LINES = 250
MOST_FILES = 12
# One schema on one page.
LONG = {"store/tables.py"}
# `defs/X.py` is the wiring of `X/`, `cli/X.py` its commands.
FACES = {"defs", "cli"}


def _modules() -> list[Path]:
    found = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py")]
    return [p for p in found if "migrations" not in p.parts and p.name != "__init__.py"]


def test_imports_go_down_the_loop_only():
    command = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_a_base_name_occurs_once_in_the_domain():
    places: dict[str, list[str]] = defaultdict(list)
    for path in _modules():
        if path.parts[0] not in FACES:
            places[path.name].append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_files_stay_short():
    long = {str(p): len((PACKAGE / p).read_text().splitlines()) for p in _modules()}
    assert {name: n for name, n in long.items() if n > MOST_LINES and name not in LONG} == {}


def test_folders_stay_small():
    files: dict[str, list[str]] = defaultdict(list)
    for path in _modules():
        if path.parts[0] != "defs":
            files[str(path.parent)].append(path.name)
    assert {folder: names for folder, names in files.items() if len(names) > MOST_FILES} == {}


def test_every_folder_and_module_says_what_it_is():
    silent = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "migrations" not in path.parts and not path.read_text().startswith('"""')
    ]
    assert silent == []
