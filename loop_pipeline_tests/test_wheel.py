"""The package alone, from a built wheel, without torch: what a person gets with `pip install`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
OFFLINE = ("NewConnectionError", "name resolution", "dns error", "error sending request")


def _run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and k[:5] != "LOOP_"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=clean | variables, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("wheel")

    def run(*command: str | Path) -> None:
        done = _run(*command, folder=folder)
        if done.returncode and any(word in done.stderr for word in OFFLINE):
            pytest.skip(f"no package index: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    python = folder / "env/bin/python"
    pins = ("-c", ROOT / "infra/constraints-pipeline.txt")
    run(sys.executable, "-m", "venv", folder / "env")
    if uv := shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        run(uv, "build", "--wheel", "--out-dir", folder, ROOT)
        [wheel] = folder.glob("loop_pipeline-*.whl")
        run(uv, "pip", "install", "--python", python, *pins, wheel)
    else:
        run(python, "-m", "pip", "wheel", ROOT, "--no-deps", "-w", folder)
        [wheel] = folder.glob("loop_pipeline-*.whl")
        run(python, "-m", "pip", "install", *pins, wheel)
    size = _run("du", "-sh", folder / "env", folder=folder).stdout.split()[0]
    print(f"wheel {wheel.stat().st_size / 1e6:.2f} MB, environment {size}")
    return python.parent


def test_the_commands_work_without_training_libraries(
    installed: Path, tmp_path: Path, trace: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "traces.jsonl").write_text(json.dumps(trace(1)) + "\n")
    for arguments, code, words in (
        ("--help", 0, "import"),
        ("import traces.jsonl", 0, "1 new traces"),
        ("status", 0, "traces"),
        ("review", 0, "answers drawn"),
        ("review export sheet.csv", 0, "items in sheet.csv"),
        (f"follow {trace(1)['prompt_id']}", 0, "traces.jsonl"),
        ("policy schema", 0, '"title"'),
        ("groups list", 0, "no task groups yet"),
        ("doctor", 1, "no student is in force"),
        ("demo", 1, "training needs torch"),
        ("serve", 1, "name its interpreter with LOOP_SERVE_PYTHON"),
    ):
        done = _run(installed / "loop", *arguments.split(), folder=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert words in done.stdout + done.stderr, arguments
        assert "Traceback" not in done.stderr, arguments


def test_the_code_location_loads_and_a_dagster_home_is_whole(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "from loop_pipeline.definitions import defs; from loop_pipeline.settings import *;"
        "from loop_pipeline.demo.turn import dagster_home;"
        "defs().get_repository_def(); print(dagster_home(load_settings()) / 'dagster.yaml')"
    )
    for variables in ({}, {"LOOP_DAGSTER_URL": "postgresql+psycopg2://nobody@nowhere/x"}):
        done = _run(installed / "python", "-W", "ignore", "-c", code, folder=tmp_path, **variables)
        assert done.returncode == 0, done.stderr
        written = Path(done.stdout.strip()).read_text()
        assert "run_monitoring" in written
