"""Do two imports at once lose an answer, or move a review to an answer it does not speak of?

    python -m benchmarks.import_conflicts [POSTGRESQL_URL]

Two processes import 12,000 traces each at the same moment: the same ids, other answers, in opposite
order, a reviewer's verdict inside each. Of every id one answer has to be stored, the other one in
quarantine with its line, and the stored verdict has to speak of the stored answer. The URL names an
empty database; without one, PostgreSQL is left out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.store.database import open_store
from loop_pipeline_tests.faults.conflicting_imports import two_at_once

IDS = 12_000


def measure(name: str, url: str, folder: Path) -> dict[str, Any]:
    """What became of both files in this database."""
    open_store(url).dispose()
    start = time.perf_counter()
    found = asdict(two_at_once(url, folder, IDS))
    words = {column.replace("told_new", "called new"): value for column, value in found.items()}
    return {"database": name, "kind": "ours", **words, "seconds": time.perf_counter() - start}


def main() -> None:
    """Print a line a database, and write them down."""
    begun = Start()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure("SQLite", f"sqlite:///{folder}/loop.db", Path(folder))]
        rows += [measure("PostgreSQL", url, Path(folder)) for url in sys.argv[1:2]]
    sys.stdout.write(pd.DataFrame(rows).round(1).to_string(index=False) + "\n")
    title = f"Two imports at once of {IDS} ids with different answers"
    record(
        __file__, __doc__, [table(title, rows, {"seconds": "s"})], begun, packages=["sqlalchemy"]
    )


if __name__ == "__main__":
    main()
