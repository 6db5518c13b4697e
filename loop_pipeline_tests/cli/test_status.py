"""``loop status`` as it is typed: it says what it can, also when next to nothing is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AWAY = "postgresql+psycopg2://loop:hunter2@127.0.0.1:1/loop"


@pytest.mark.parametrize(
    ("options", "variables", "code", "words"),
    [
        ((), {}, 0, "nothing; `loop up` starts the live loop"),
        ((), {"LOOP_DATABASE_URL": AWAY}, 0, "refused"),
        (("--tables",), {}, 0, "labeled_pairs"),
        (("--tables",), {"LOOP_DATABASE_URL": AWAY}, 1, "refused"),
    ],
)
def test_what_can_be_said_is_said(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str], code: int, words: str
) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOOP_")}
    done = subprocess.run(
        [sys.executable, "-m", "loop_pipeline.cli.main", "status", *options],
        capture_output=True,
        text=True,
        env=clean | {"LOOP_HOME": str(tmp_path / "home")} | variables,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
