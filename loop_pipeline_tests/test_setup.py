"""`infra/setup.sh`: stand-ins for Python, uv and pip where an install would take long, one real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Makes an "environment" of a copy of itself and notes every pip call.
PYTHON = """#!/bin/bash
folder=$(cd "$(dirname "$0")/.." && pwd)
case "$*" in
  *version_info*) [ -z "$STUB_OLD" ] ;;
  *fcntl*) exec REAL "$@" ;;
  *find_spec*) [ -e "$folder/torch" ] ;;
  *importlib.metadata*) [ -e "$folder/torch" ] && cat "$folder/torch" ;;
  "-m venv "*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
  --version) echo Python 3.11.0 ;;
  "-m pip --version") [ ! -e "$folder/no-pip" ] ;;
  *"config list"*) echo "global.find-links='/some/wheels'" ;;
  *" install uv=="*) echo 'ERROR: no uv here'; exit 1 ;;
  *" install "*)
    echo "pip $*" >>"$STUB_CALLS"
    [ -z "$STUB_PIP_SAYS" ] || { echo "$STUB_PIP_SAYS"; exit 1; }
    [[ "$*" != *torch==* ]] || echo 2.13.0+cpu >"$folder/torch" ;;
esac
"""
UV = """#!/bin/bash
[ "$1" = --version ] && exit
echo "uv $* links=$UV_FIND_LINKS" >>"$STUB_CALLS"
sleep "${STUB_UV_SLEEPS:-0}"
[ -z "$STUB_UV_SAYS" ] || { echo "$STUB_UV_SAYS"; exit 1; }
[[ "$*" != *torch==* ]] || echo 2.13.0+cpu >"$(dirname "$(dirname "$4")")/torch"
"""


class Setup:
    """A copy of what setup.sh reads, in an empty folder, with stand-ins first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin = folder / "project", folder / "bin"
        self.venv, self.called = self.root / "venv", folder / "calls"
        shutil.copytree(ROOT / "infra", self.root / "infra")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.bin.mkdir()
        self.add("python3.11", PYTHON.replace("REAL", sys.executable))
        self.add("uv", UV)
        self.called.touch()

    def add(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def start(self, kind: str = "pipeline", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", self.root / "infra/setup.sh", kind, self.venv],
            env={
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "STUB_CALLS": str(self.called),
                **environment,
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, kind: str = "pipeline", **environment: str) -> tuple[int, str]:
        process = self.start(kind, **environment)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @property
    def calls(self) -> list[str]:
        return self.called.read_text().splitlines()


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_uv_makes_the_environment_and_the_second_call_finds_it(setup: Setup) -> None:
    code, said = setup.run()
    assert code == 0
    assert "venv is ready: " in said
    assert [line.split()[0] for line in setup.calls] == ["uv", "uv"]
    assert setup.run() == (0, "")
    assert len(setup.calls) == 2


@pytest.mark.parametrize("kind", ["pipeline", "serve"])
def test_without_a_gpu_only_the_cpu_build_of_torch_is_ever_asked_for(
    setup: Setup, kind: str
) -> None:
    assert setup.run(kind)[0] == 0
    torch, rest = setup.calls
    assert "torch==2.13.0+cpu" in torch
    assert "links=/some/wheels" in torch  # pip's setting, which uv does not read by itself
    assert f"-c {setup.venv}/torch.txt" in rest
    assert (setup.venv / "torch.txt").read_text() == "torch==2.13.0+cpu\n"


def test_with_a_gpu_torch_and_vllm_are_the_usual_builds_with_pins_of_their_own(
    setup: Setup,
) -> None:
    setup.add("nvidia-smi", "#!/bin/bash\n")
    assert setup.run("serve")[0] == 0
    torch, rest = setup.calls
    assert "torch==2.13.0 " in torch
    assert "vllm==0.32.0" in rest
    assert "constraints-serve-gpu.txt" in rest


def test_where_uv_cannot_be_had_pip_does_it(setup: Setup) -> None:
    (setup.bin / "uv").unlink()
    code, said = setup.run()
    assert code == 0
    assert "with pip, which takes some minutes" in said
    assert [line.split()[0] for line in setup.calls] == ["pip", "pip"]


def test_where_uv_fails_pip_is_tried(setup: Setup) -> None:
    code, _ = setup.run(STUB_UV_SAYS="error: no such package")
    assert code == 0
    assert setup.calls[-1].startswith("pip")


def test_two_calls_at_once_install_once(setup: Setup) -> None:
    both = [setup.start(STUB_UV_SLEEPS="0.5") for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(setup.calls) == 2
    assert sum("waiting for it" in text for text in said) == 1


def test_a_killed_install_is_waited_for_and_made_anew(setup: Setup) -> None:
    first = setup.start(STUB_UV_SLEEPS="2")
    while not setup.calls:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)  # the script alone: its installer goes on
    (setup.venv / "leftover").touch()
    code, said = setup.run()
    assert code == 0
    assert "waiting for it" in said
    assert "half-made" in said
    assert not (setup.venv / "leftover").exists()
    assert setup.run() == (0, "")


@pytest.mark.parametrize("damage", ["no pip", "python gone", "python and pip gone"])
def test_a_damaged_environment_is_made_anew(setup: Setup, damage: str) -> None:
    setup.run()
    if "python" in damage:
        (setup.venv / "bin/python").unlink()
    else:
        (setup.venv / "no-pip").touch()
        (setup.venv / ".complete").write_text("of an earlier version")
    code, said = setup.run()
    assert code == 0
    assert "half-made (an install was ended, or its Python is gone): making it anew" in said
    assert setup.run() == (0, "")


def test_no_network_is_one_line_and_an_earlier_environment_stays(setup: Setup) -> None:
    setup.run()
    (setup.venv / ".complete").write_text("of an earlier version\n")
    (setup.venv / "torch").write_text("2.12.0+cpu")
    for _ in range(2):
        code, said = setup.run(
            STUB_UV_SAYS="error: Failed to fetch: dns error",
            STUB_PIP_SAYS="NewConnectionError: Temporary failure in name resolution",
        )
        assert code == 1
        assert said.splitlines()[-1].startswith("setup: no network to the package index?")
        assert "half-made" not in said
    assert (setup.venv / ".complete").read_text() == "of an earlier version\n"


def test_a_full_disk_is_one_line_and_the_environment_counts_as_half_made(setup: Setup) -> None:
    full = "[Errno 28] No space left on device"
    code, said = setup.run(STUB_UV_SAYS=full, STUB_PIP_SAYS=full)
    assert code == 1
    assert said.splitlines()[-1].startswith("setup: the disk is full: ")
    assert "half-made" in setup.run()[1]


def test_too_little_room_is_said_before_anything_is_made(setup: Setup) -> None:
    setup.add("df", "#!/bin/bash\necho head\necho x 1 1 2097152 1% /\n")
    code, said = setup.run()
    assert code == 1
    assert said == "setup: 2 GB free here, the pipeline environment needs 5 GB\n"
    assert not setup.venv.exists()


def test_a_wrong_python_is_named(setup: Setup, tmp_path: Path) -> None:
    code, said = setup.run(STUB_OLD="yes", LOOP_PYTHON=str(setup.bin / "python3.11"))
    assert code == 1
    assert f"LOOP_PYTHON={setup.bin}/python3.11 is none" in said
    assert setup.run(LOOP_PYTHON=str(tmp_path / "not there"))[0] == 1
    assert setup.calls == []


def test_a_package_that_cannot_be_had_is_named_with_the_reason(setup: Setup) -> None:
    wrong = "ERROR: No matching distribution found for torch==2.13.0+cpu"
    code, said = setup.run(STUB_UV_SAYS="error: no such version", STUB_PIP_SAYS=wrong)
    assert code == 1
    assert said.splitlines()[-1].endswith(wrong)


def test_a_folder_that_is_no_environment_is_never_removed(setup: Setup) -> None:
    setup.venv.mkdir()
    (setup.venv / "thesis.txt").touch()
    code, said = setup.run()
    assert code == 1
    assert "is no virtual environment" in said
    assert (setup.venv / "thesis.txt").exists()


def test_a_link_to_an_environment_is_used_and_never_changed(setup: Setup) -> None:
    setup.run()
    (setup.venv / ".complete").write_text("of another checkout")
    kept = setup.venv.rename(setup.root / "kept")
    setup.venv.symlink_to(kept)
    assert setup.run() == (0, "")
    assert (kept / ".complete").read_text() == "of another checkout"


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_install_ended_by_kill_9_is_finished_by_the_next_call(tmp_path: Path) -> None:
    for name in ("infra", "loop_pipeline"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    venv = tmp_path / ".venv"
    command = ["bash", tmp_path / "infra/setup.sh", "pipeline", venv]
    first = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        while first.poll() is None and not list(venv.glob("lib/*/site-packages/torch/*")):
            time.sleep(0.05)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no network" in second.stderr:
        pytest.skip(second.stderr.splitlines()[-1])
    assert second.returncode == 0, second.stdout + second.stderr
    assert "half-made" in second.stdout
    print(second.stdout.splitlines()[-1])
    python = venv / "bin/python"
    checked = subprocess.run([python, "-m", "pip", "check"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
    helped = subprocess.run([venv / "bin/loop", "--help"], capture_output=True, check=False)
    assert helped.returncode == 0, helped.stderr
    if shutil.which("nvidia-smi") is None:
        assert not list(venv.glob("lib/*/site-packages/nvidia*"))
