"""Is an import with all its checks as fast as it was without them?

    python -m benchmarks.import_checks NAME=CHECKOUT [NAME=CHECKOUT ...]

20,000 traces (1.5 kB a line) that each of these versions can read, into an empty SQLite store, by a
process of its own for each import; the versions in turn, three rounds. Processor time is what to
compare on a machine that does other work as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.import_speed import write_traffic
from benchmarks.record import Start, record, table

ROWS, ROUNDS = 20_000, 3
# Fields that came after the oldest version that is compared.
LATER = ("user_hash", "served_model", "response_id", "first_byte_ms", "parameters")
IMPORT = """
import sys, time
from pathlib import Path
try:
    from loop_pipeline.store.database import open_store
except ImportError:
    from loop_pipeline.store.queries import open_store
from loop_pipeline.traces.ingest import import_file
engine = open_store(sys.argv[1])
start, began = time.perf_counter(), time.process_time()
done = import_file(engine, Path(sys.argv[2]))
print(done.traces, time.perf_counter() - start, time.process_time() - began)
"""


def main() -> None:
    """Print a line a version, and write them down."""
    begun = Start()
    here = Path(__file__).parents[1]
    given = [part.partition("=") for part in sys.argv[1:]]
    versions = {name: Path(folder) for name, _, folder in given} | {"with all checks": here}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as folder:
        path = _traffic(Path(folder))
        for round_ in range(ROUNDS):
            for number, (name, checkout) in enumerate(versions.items()):
                url = f"sqlite:///{folder}/{round_}-{number}.db"
                took[name].append(_import(checkout, url, path))
    rows = [_row(name, times) for name, times in took.items()]
    sys.stdout.write(pd.DataFrame(rows).round(3).to_string(index=False) + "\n")
    units = {"processor time a trace": "ms", "processor time, least": "ms"}
    title = f"{ROWS} traces into an empty SQLite store, {ROUNDS} rounds in turn"
    record(__file__, __doc__, [table(title, rows, units)], begun, packages=["orjson", "sqlalchemy"])


def _traffic(folder: Path) -> Path:
    whole, path = folder / "whole.jsonl", folder / "traffic.jsonl"
    write_traffic(whole, ROWS)
    with whole.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        for line in lines:
            row = {name: value for name, value in json.loads(line).items() if name not in LATER}
            file.write(json.dumps(row) + "\n")
    return path


def _import(checkout: Path, url: str, path: Path) -> tuple[float, float]:
    """Seconds and seconds of processor time."""
    said = subprocess.run(
        [sys.executable, "-c", IMPORT, url, str(path)],
        env=os.environ | {"PYTHONPATH": str(checkout)},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if int(said[0]) != ROWS:
        raise ValueError(f"{checkout} took {said[0]} of {ROWS} traces")
    return float(said[1]), float(said[2])


def _row(name: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    seconds, cpu = (pd.Series(part) for part in zip(*times, strict=True))
    return {
        "version": name,
        "kind": "ours" if name == "with all checks" else "control",
        "traces": ROWS,
        "traces a second": ROWS / seconds.median(),
        "processor time a trace": 1000 * cpu.median() / ROWS,
        "processor time, least": 1000 * cpu.min() / ROWS,
    }


if __name__ == "__main__":
    main()
