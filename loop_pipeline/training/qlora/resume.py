"""Checkpoints that survive a killed process and a full disk: marked when whole, or not used.

Not here: finished adapters (``adapter_folder.py``).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from loop_pipeline.training.qlora.adapter_folder import META, read_meta, write_mark
from loop_pipeline.training.qlora.tokens import Log
from loop_pipeline.whole_file import DamagedFile, read_object, write_whole

COMPLETE = "complete.json"


class DiskFull(OSError):
    """A checkpoint could not be written; says where the next run goes on."""


def mark_complete(folder: Path, seconds: float) -> None:
    """Write the mark that a killed save does not get: every file with its size, and time spent."""
    write_mark(folder / COMPLETE, {"files": _sizes(folder), "seconds": seconds})


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _mark(folder: Path) -> dict[str, Any]:
    """The mark of a checkpoint whose files are all there, else nothing."""
    path = folder / COMPLETE
    if not path.exists():
        return {}
    try:
        mark = read_object(path, ("files", "seconds"), mend="it counts as not written")
    except DamagedFile:
        return {}
    return mark if mark["files"].items() <= _sizes(folder).items() else {}


def _checkpoints(run_dir: Path) -> list[Path]:
    """Newest first."""
    found = run_dir.glob("checkpoint-*")
    return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def last_complete_checkpoint(run_dir: Path, log: Log) -> tuple[str | None, float]:
    """Find the newest checkpoint whose every file is there; remove half-written ones.

    Returns:
        Its folder, and the seconds of training behind it; None and 0 if there is none.
    """
    for folder in _checkpoints(run_dir):
        if mark := _mark(folder):
            log(f"resuming from {folder.name}")
            return str(folder), float(mark["seconds"])
        log(f"{folder.name} was not written to its end: removed")
        shutil.rmtree(folder)
    return None, 0.0


def explain_failed_save(run_dir: Path, error: Exception) -> DiskFull | None:
    """Tell a failure to write a checkpoint from others: the newest one is not whole."""
    found = _checkpoints(run_dir)
    if not found or _mark(found[0]):
        return None
    whole = next((folder.name for folder in found[1:] if _mark(folder)), None)
    free = shutil.disk_usage(run_dir).free / 1e6
    return DiskFull(
        f"{found[0]} could not be written ({str(error).splitlines()[0]}; {free:,.0f} MB are free): "
        f"make room and run again, it goes on from {whole or 'the start'}"
    )


def prepare(run_dir: Path, fingerprint: str, log: Log) -> dict[str, Any] | None:
    """Return a finished adapter's meta; forget what another recipe or dataset left here."""
    run_dir.mkdir(parents=True, exist_ok=True)
    mark = run_dir / "fingerprint"
    if mark.exists() and mark.read_text(encoding="utf-8") != fingerprint:
        log(f"{run_dir} holds a run of another dataset, base or recipe: starting over")
        shutil.rmtree(run_dir)
        run_dir.mkdir()
    write_whole(mark, fingerprint)
    if not (run_dir / "adapter" / META).exists():
        return None
    log(f"adapter {run_dir} is complete: reused")
    return read_meta(run_dir / "adapter")


def remove_checkpoints(run_dir: Path) -> None:
    """Optimizer states are of use to a resume only."""
    for folder in _checkpoints(run_dir):
        shutil.rmtree(folder)
