"""Writes what a benchmark has measured to ``benchmarks/results/NAME.json``.

Measures nothing and prints nothing; ``page.py`` makes ``docs/benchmarks.md`` of the files.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("numpy", "scipy", "scikit-learn", "pandas")
DIGITS = 6  # significant ones; the last digits of a sum differ between machines


def _loads() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


@dataclass(frozen=True)
class Start:
    """When a measurement began, and how busy the machine was (load over 1, 5 and 15 minutes)."""

    seconds: float = field(default_factory=time.monotonic)
    loads: list[float] = field(default_factory=_loads)


def table(
    title: str,
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    units: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A table of figures as it is stored.

    Args:
        title: what the rows have in common, and what every figure is a figure of.
        rows: one a thing measured. A text column ``kind`` says ``ours`` (if there is none, all rows
            are), ``control`` (measured in the same run) or ``published`` (quoted). The interval of
            a column lies in the columns ``NAME low`` and ``NAME high``.
        units: of the columns: ``share`` (0 to 1, shown in per cent), ``s``, ``ms``, ``GB``, ...
            A column without one is a plain number or a text.
    """
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)
    columns = list(dict.fromkeys(str(name) for row in records for name in row))
    return {
        "title": title,
        "columns": columns,
        "units": {name: unit for name, unit in (units or {}).items() if name in columns},
        "rows": [{str(k): _plain(v) for k, v in row.items()} for row in records],
    }


def record(
    file: str,
    doc: str | None,
    tables: Sequence[Mapping[str, Any]],
    start: Start,
    *,
    rivals: Sequence[str] = (),
    packages: Sequence[str] = (),
    variables: Sequence[str] = (),
    notes: Sequence[str] = (),
    folder: Path | None = None,
) -> Path:
    """Write the results of a run.

    Args:
        file: ``__file__`` of the benchmark.
        doc: its ``__doc__``: first line, the question; then how it is measured.
        tables: made by `table`.
        start: made before the measurement.
        rivals: other people's programs that ran in this run, with versions.
        packages: whose versions matter, beside those that always do.
        variables: of the environment that the benchmark reads and that hold a path.
        notes: sentences that must stand beside the figures.
        folder: where the file goes, if not to the results of this checkout.

    Returns:
        The file.
    """
    name = Path(file).stem
    question, method = _described(doc or "")
    found = {
        "benchmark": name,
        "question": question,
        "method": method,
        "command": _command(name, variables),
        **_commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "seconds": round(time.monotonic() - start.seconds, 1),
        "machine": machine() | {"load_at_start": start.loads, "load_at_end": _loads()},
        "packages": _versions((*PACKAGES, *packages)),
        "rivals_in_this_run": list(rivals),
        "notes": list(notes),
        "tables": list(tables),
    }
    folder = folder or RESULTS
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def _plain(value: Any) -> Any:
    """Numbers, texts and nulls as JSON knows them."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def _described(doc: str) -> tuple[str, str]:
    """The question, and the paragraphs on how it is measured, without the command."""
    first, *rest = re.split(r"\n\s*\n", doc.strip())
    question, _, more = " ".join(first.split()).partition("? ")
    kept = [" ".join(part.split()) for part in rest if not part.startswith("    ")]
    return f"{question.rstrip('?')}?", "\n\n".join([*([more] if more else []), *kept])


def _command(name: str, variables: Sequence[str]) -> str:
    """What was typed; where somebody's files lie is not written down."""
    threads = os.environ.get("OMP_NUM_THREADS")
    shown = [f"OMP_NUM_THREADS={threads}"] if threads else []
    shown += [f"{variable}=PATH" for variable in variables if os.environ.get(variable)]
    given = ["PATH" if "/" in word else word for word in sys.argv[1:]]
    return " ".join([*shown, "python", "-m", f"benchmarks.{name}", *given])


def _commit() -> dict[str, Any]:
    """The commit, and whether code differed from it; results and documents may."""
    program = shutil.which("git")
    if program is None or not (ROOT / ".git").exists():
        # A copy without its history, as on a rented machine: who copied it says which it is.
        return {"commit": os.environ.get("LOOP_BENCH_COMMIT", "unknown"), "code_changed": False}

    def git(*words: str) -> str:
        command = [program, *words]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "loop_pipeline", "benchmarks/*.py")
    return {"commit": git("rev-parse", "--short=7", "HEAD"), "code_changed": bool(changed)}


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine, and its accelerator if there is one."""
    found: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        found["processor"] = models[0] if models else found["processor"]
    if hasattr(os, "sysconf"):
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        found["memory_gb"] = round(pages * size / 1e9, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
