"""Where a module's tests are can be told from its path."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# What these are about is no single module.
WHOLE = {
    "clients": "other people's clients against the gateway",
    "faults": "what is missing or broken in a turn",
    "test_architecture_page.py": "docs/architecture.md",
    "test_benchmarks.py": "benchmarks/",
    "test_docs.py": "README.md and docs/",
    "test_examples.py": "examples/",
    "test_figures.py": "benchmarks/results/",
    "test_layers.py": "the tree of the package",
    "test_loop.py": "a whole turn",
    "test_mirror.py": "the tree of the tests",
    "test_readme.py": "README.md",
    "test_setup.py": "infra/setup.sh",
    "test_wheel.py": "the package as it is installed",
}


def _named_after(path: Path) -> bool:
    """Whether a module has the test's name, or its beginning: `router` for `test_router_canary`."""
    words = path.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:n]) for n in range(len(words), 0, -1)]
    folders = (ROOT / "loop_pipeline" / path.parent, ROOT / path.parent)
    return any((folder / f"{name}.py").exists() for folder in folders for name in names)


def test_every_test_file_is_named_after_a_module_or_says_why_not() -> None:
    found = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    whole = [path for path in found if path.parts[0] in WHOLE]
    assert [str(p) for p in found if p not in whole and not _named_after(p)] == []
