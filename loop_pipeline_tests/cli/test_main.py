"""What a person reads when a command cannot do its work: one line, and what to do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.cli.main import main

ROOT = Path(__file__).parents[2]


def _here(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The same in this process: starting one takes seconds, and what is printed is the same."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith("LOOP_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["loop", *arguments])
        patch.chdir(ROOT)
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else bool(end.code)
            err.write(end.code if isinstance(end.code, str) else "")
    return subprocess.CompletedProcess(arguments, int(code), out.getvalue(), err.getvalue())


def _loop(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    code = "from loop_pipeline.cli.main import main; main()"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOP_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment | variables,
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("import", "/no/such/file"), {}, "No such file"),
        (
            ("status", "--tables"),
            {"LOOP_DATABASE_URL": "postgresql+psycopg2://x@127.0.0.1:1/y"},
            "refused",
        ),
        (("up", "--demo"), {}, "run `make demo` first"),
        (("status",), {"LOOP_TARGET_AGREEMENT": "1.5"}, "LOOP_TARGET_AGREEMENT"),
        (("replay", "headlines"), {"LOOP_BENCH_DATA": "/no/such/folder"}, "LOOP_BENCH_DATA"),
        (("replay", "imagenet"), {}, "imagenet"),
        (("report",), {}, "materialize loop_report"),
        (("serve",), {"LOOP_SERVE_PYTHON": "/no/python"}, "make serve-env"),
        (("demo",), {"LOOP_SERVE_PYTHON": "/no/python"}, "make serve-env"),
        (("demo",), {"LOOP_TRAIN_PYTHON": "/no/python"}, "LOOP_TRAIN_PYTHON"),
        (("rollback",), {}, "no policy is in force"),
        (("doctor",), {}, "no student is in force"),
        (("doctor", "--outcomes", "/no/such/table.csv"), {}, "No such file"),
        (("doctor", "--outcomes", "README.md"), {}, "README.md, line 1: not a JSON object"),
        (("groups", "rename", "g1", "orders"), {}, "no group begins with 'g1'"),
        (("rollout", "advance"), {}, "no rollout is in progress"),
        (("review", "import", "/no/such/sheet.csv", "--reviewer", "ann"), {}, "No such file"),
        (("review", "pull"), {"LOOP_MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    ],
)
def test_one_line_says_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    done = _here(*arguments, **({"LOOP_HOME": str(tmp_path)} | variables))
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("imprt", "x"), "Did you mean 'import'?"),
        (("polcy",), "Did you mean 'policy'?"),
        (("review", "exprt"), "Did you mean 'export'?"),
        (("groups", "renam"), "Did you mean 'rename'?"),
        (("rollout", "advance", "--reson", "x"), "--reason"),
        (("doctor", "--outcome", "x"), "--outcomes"),
    ],
)
def test_what_is_mistyped_suggests_what_was_meant(typed: tuple[str, ...], meant: str) -> None:
    done = _here(*typed)
    assert done.returncode == 2
    assert meant in done.stderr


def test_no_command_shows_a_password(tmp_path: Path) -> None:
    secret, home = "hunter2", {"LOOP_HOME": str(tmp_path)}
    for arguments, variables in (
        (("review", "push"), {"LOOP_MLFLOW_TRACKING_URI": f"http://ann:{secret}@127.0.0.1:9"}),
        (
            ("status", "--tables"),
            {"LOOP_DATABASE_URL": f"postgresql+psycopg2://ann:{secret}@127.0.0.1:1/x"},
        ),
        (("serve",), {"LOOP_VLLM_URL": f"http://ann:{secret}@127.0.0.1"}),
        (("status",), {"LOOP_JUDGE_RATE": secret}),
    ):
        done = _loop(*arguments, **home, **variables)
        assert done.returncode != 0
        assert secret not in done.stdout + done.stderr, arguments


def test_a_full_disk_is_one_line_and_loses_nothing(
    tmp_path: Path,
    trace: Callable[..., dict[str, Any]],
    jsonl: Callable[..., Path],
) -> None:
    """A file-size limit stands in for a full disk: SQLite meets the same failed write."""
    few, many = jsonl(trace(1), name="few.jsonl"), tmp_path / "many.jsonl"
    import json

    many.write_text("\n".join(json.dumps(trace(i)) for i in range(2, 6000)) + "\n")
    home = {"LOOP_HOME": str(tmp_path / "home")}
    assert _here("import", str(few), **home).returncode == 0
    limited = subprocess.run(
        ["bash", "-c", f"ulimit -f 1500; exec {sys.executable} -c "
         "'import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
         f" from loop_pipeline.cli.main import main; main()' import {many}"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | home,
    )  # fmt: skip
    assert limited.returncode != 0
    assert "Traceback" not in limited.stderr
    assert "database" in limited.stderr
    after = _here("import", str(many), **home)
    assert after.returncode == 0, after.stderr
    status = _here("status", **home).stdout
    assert "5,999" in next(line for line in status.splitlines() if line.startswith("traces"))


def test_reviews_by_sheet_from_the_command_line(tmp_path: Path) -> None:
    home = {"LOOP_HOME": str(tmp_path)}
    plan = _here("review", **home)
    assert plan.stdout.startswith("0 of 0 answers drawn: 0 open")
    assert plan.stdout == _here("review", "status", **home).stdout
    sheet = str(tmp_path / "q.csv")
    assert "0 items" in _here("review", "export", sheet, **home).stdout
    done = _here("review", "import", sheet, "--reviewer", "ann", **home)
    assert done.returncode == 0, done.stderr
    assert "0 new feedback" in done.stdout
