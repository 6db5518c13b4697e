"""README and docs say what is so: code runs, links lead somewhere, made pages are current."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from pytest_examples import CodeExample, EvalExample, find_examples
from typer.testing import CliRunner

from docs import generate
from loop_pipeline.cli.main import app
from loop_pipeline.recipe import QLoRAConfig

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("*/README.md")]
MADE = [path for path in PAGES if path.read_text().startswith("<!-- Made by")]
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SOURCES = ("loop_pipeline", "benchmarks", "examples")
OUTPUT = "text"  # what a command prints: nothing to run
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else stands on the opening fence, and its text."""

    page: Path
    line: int
    language: str
    settings: dict[str, str]
    source: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        indent, opening, source = match.groups()
        language, *_ = [*opening.split(), ""]
        settings = dict(re.findall(r'(\w+)="([^"]*)"', opening))
        lines = [line.removeprefix(indent) for line in source.splitlines(keepends=True)]
        number = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, number, language, settings, "".join(lines)))
    return found


def prose_of(page: Path) -> str:
    """A page without its fenced blocks, each line where it was."""
    text = page.read_text(encoding="utf-8")
    return FENCE.sub(lambda match: "\n" * match.group().count("\n"), text)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- code blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=named)
def test_every_block_of_a_page_does_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eval_example: EvalExample
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name in [name for name in os.environ if name.startswith("LOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if "skip" in block.settings:
            assert block.settings["skip"].strip(), f"{block.place}: skipped without a reason"
            assert block.language != OUTPUT, f"{block.place}: output needs no reason"
        elif block.language == "python":
            eval_example.run(CodeExample.create(block.source, path=page, start_line=block.line))
        elif block.language == "bash":
            for words in commands_in(block):
                run(words, block)
        else:
            check_text(block, tmp_path)


def check_text(block: Block, scratch: Path) -> None:
    """JSON and YAML are well-formed; a recipe is one."""
    if block.language == "json":
        rest, decoder = block.source.strip(), json.JSONDecoder()
        while rest:
            _, end = decoder.raw_decode(rest)
            rest = rest[end:].strip()
    elif block.language == "yaml":
        shown = list(yaml.safe_load_all(block.source))
        if "profile" in (shown[0] or {}):
            path = scratch / "recipe.yaml"
            path.write_text(block.source)
            QLoRAConfig.from_yaml(path)
    else:
        assert block.language == OUTPUT, f"{block.place}: what is this? Name a language"


def commands_in(block: Block) -> list[list[str]]:
    """The words of each line, without comments; a line that ends in ``\\`` goes on in the next."""
    lines = block.source.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def split_environment(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Variables that are set for one command, and the command."""
    count = next((i for i, w in enumerate(words) if not re.match(r"[A-Z_]+=", w)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def run(words: list[str], block: Block) -> None:
    """Run one command as a reader would have typed it; `loop` in this process, which is faster."""
    given, words = split_environment(words)
    told, program = f"{block.place}: {shlex.join(words)}", words[0].removeprefix(".venv/bin/")
    if program == "loop":
        said = CliRunner().invoke(app, words[1:], env=given)
        assert said.exit_code == 0, f"{told}: {said.exception!r}\n{said.output[-2000:]}"
        return
    assert program == "python", f'{told} is not run here; say skip="why"'
    done = subprocess.run(
        [sys.executable, *words[1:]],
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{told}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=named)
def test_commands_that_are_not_run_exist_all_the_same(page: Path) -> None:
    known, targets = generate.commands(), set(re.findall(r"^([\w-]+):", makefile(), re.MULTILINE))
    for block in blocks_of(page):
        for words in commands_in(block) if block.language == "bash" else []:
            _, words = split_environment(words)
            program = Path(words[0]).name if words else ""
            if program == "loop":
                check_command(words[1:], known, block)
            elif program == "make":
                assert set(words[1:]) <= targets, f"{block.place}: no target {words[1:]}"
            elif program.startswith("python") and "-m" in words:
                module = words[words.index("-m") + 1]
                assert find_spec(module), f"{block.place}: no module {module}"


def check_command(words: list[str], known: dict[str, object], block: Block) -> None:
    """The command is there, and it has these options."""
    plain = [word for word in words if not word.startswith("-")]
    tried = [" ".join(["loop", *plain[:count]]) for count in range(len(plain), -1, -1)]
    name = next(words for words in tried if words in known)
    command = known[name]
    below = getattr(command, "commands", {})
    if below and len(plain) > name.count(" "):
        raise AssertionError(f"{block.place}: no command {' '.join(['loop', *plain])}")
    options = {option for parameter in command.params for option in parameter.opts}  # pyright: ignore
    for word in words:
        option = word.split("=")[0]
        assert not option.startswith("--") or option in {*options, "--help"}, (
            f"{block.place}: {name} has no {option}"
        )


def makefile() -> str:
    return (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "example",
    [
        example
        for example in find_examples(ROOT / "loop_pipeline", ROOT / "examples", ROOT / "benchmarks")
        if example.in_py_file() and "skip" not in example.prefix_settings()
    ],
    ids=str,
)
def test_code_in_docstrings_runs(
    example: CodeExample, eval_example: EvalExample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = eval_example.run(example)
    assert set(shown) - {"__builtins__"}, f"{example} names nothing: what does it show?"


# ---- links ---------------------------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """What a heading is called in an address, as GitHub makes it."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        plain = LINK.sub("", heading.replace("`", "")).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(
            other == slug or re.fullmatch(rf"{slug}-\d+", other) is not None for other in found
        )
        found.add(f"{slug}-{count}" if count else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", prose_of(page))
    wrong = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or not path.is_relative_to(ROOT):
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors_of(path):
            wrong.append(f"{target}: no such heading")
    assert not wrong


# ---- made pages ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", generate.pages(), ids=named)
def test_pages_that_are_made_are_current(page: Path) -> None:
    assert page.read_text() == generate.pages()[page], "run `make docs`"
