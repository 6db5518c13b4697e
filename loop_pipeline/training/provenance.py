"""Everything beside recipe and data that a run needs to be repeated."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "loop-pipeline",
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "mlflow",
)


def environment() -> dict[str, Any]:
    """Command, versions, device and commit of this process. Thread count and device change sums."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "command": shlex.join(sys.orig_argv),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or "cpu",
        "gpus": torch.cuda.device_count(),
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_commit() -> str:
    """Commit of the running code, ``+changes`` if the tree differs; empty outside a checkout."""
    try:
        commit, changes = (_git("rev-parse", "HEAD"), _git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+changes" if changes else "")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words],  # noqa: S607
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
