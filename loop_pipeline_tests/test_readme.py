"""The README is short, and nothing in the repository names a machine or a registry."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("loop_pipeline", "infra", "benchmarks", "docs", "examples", ".ci", ".github")
SUFFIXES = (".py", ".sh", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".md", ".css", "")


def test_the_readme_fits_a_strangers_patience() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150
    commands = re.findall(r"^(make|loop) ", "\n".join(lines), re.MULTILINE)
    assert commands.count("make") == 2, "two commands to try it"
    assert commands.count("loop") == 6, "six for one's own traffic"


def test_the_project_names_no_machine_and_no_registry() -> None:
    words = re.compile(
        r"/work/|/root/|/home/\w|pypi\.org|pythonhosted|download\.pytorch|127\.0\.0\.1:\d+/simple"
    )
    files = [path for path in ROOT.iterdir() if path.suffix in (".md", ".toml", ".yaml")]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files
        if path.is_file() and path.suffix in SUFFIXES
        for match in words.finditer(path.read_text(errors="replace"))
    ]
    assert not found
