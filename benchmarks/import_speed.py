"""How many traces a second does an import take, on SQLite and on PostgreSQL?

    python -m benchmarks.import_speed [POSTGRESQL_URL]

50,000 traces as the gateway writes them (1.7 kB a line, 60 labels in the contract), into an empty
store, in one process; then the same file again, of which nothing is new. The control is the way
that takes every line through the schema, as a line goes that is not plain. The URL names an empty
database; without one, PostgreSQL is left out.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import delete

from benchmarks.record import Start, record, table
from loop_pipeline.hashing import digest
from loop_pipeline.store.database import open_store
from loop_pipeline.store.tables import TraceRow
from loop_pipeline.traces.importers import jsonl
from loop_pipeline.traces.ingest import import_file

ROWS = 50_000
LABELS = [f"intent_{i}" for i in range(60)]
SYLLABLES = [a + b for a in "bdfgklmnprstvwz" for b in "aeiou"]


def write_traffic(path: Path, rows: int = ROWS) -> None:
    """Lines as ``gateway/trace_row.py`` makes them."""
    rng = random.Random(7)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(3000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(_line(rng, words, number)) + "\n")


def _line(rng: random.Random, words: list[str], number: int) -> dict[str, Any]:
    system = "Sort the request of a customer into one of the intents. " * 4
    route = {"arm": "frontier", "reason": "no group is near", "propensity": 1.0, "shadow": False}
    return {
        "prompt_id": f"p{number:08d}",
        "ts": f"2026-09-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "app": "shop",
        "user_hash": digest("user", str(number % 997))[:32],
        "task": "desk",
        "conversation_id": f"c{number}",
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": f"{number} {' '.join(rng.choices(words, k=20))}"},
        ],
        "output": rng.choice(LABELS),
        "contract": {"kind": "label", "labels": LABELS},
        "model": "gpt-5.4",
        "served_model": "gpt-5.4-2026-08-01",
        "response_id": f"chatcmpl-{digest('answer', str(number))[:24]}",
        "tokens_in": 120,
        "tokens_out": 4,
        "latency_ms": 812.4,
        "first_byte_ms": 400.1,
        "finish_reason": "stop",
        "parameters": {"temperature": 0.2},
        "route": route | {"rung": "frontier", "wire": "chat", "overhead_ms": 0.9},
    }


def measure(name: str, path: Path, url: str) -> list[dict[str, Any]]:
    """Import it by the schema, by the usual way, and once more."""
    engine = open_store(url)
    rows = [
        _timed(f"{name}, every line through the schema", "control", lambda: _slow(engine, path))
    ]
    with engine.begin() as connection:
        connection.execute(delete(TraceRow))
    rows.append(_timed(name, "ours", lambda: import_file(engine, path)))
    rows.append(_timed(f"{name}, the same file again", "ours", lambda: import_file(engine, path)))
    engine.dispose()
    return rows


def _slow(engine: Any, path: Path) -> None:
    plain, jsonl.plain_trace = jsonl.plain_trace, lambda _: None
    try:
        import_file(engine, path)
    finally:
        jsonl.plain_trace = plain


def _timed(name: str, kind: str, do: Callable[[], object]) -> dict[str, Any]:
    start, began = time.perf_counter(), time.process_time()
    do()
    took, cpu = time.perf_counter() - start, time.process_time() - began
    return {
        "import": name,
        "kind": kind,
        "traces": ROWS,
        "traces a second": ROWS / took,
        "processor time a trace": 1000 * cpu / ROWS,
    }


def main() -> None:
    """Print a line an import, and write them down."""
    begun = Start()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traffic.jsonl"
        write_traffic(path)
        size = path.stat().st_size / ROWS
        rows = measure("SQLite", path, f"sqlite:///{folder}/loop.db")
        for url in sys.argv[1:2]:
            rows += measure("PostgreSQL", path, url)
    sys.stdout.write(pd.DataFrame(rows).round(3).to_string(index=False) + "\n")
    title = f"Traces of {size:.0f} bytes a line into an empty store, one process"
    units = {"processor time a trace": "ms"}
    record(__file__, __doc__, [table(title, rows, units)], begun, packages=["orjson", "sqlalchemy"])


if __name__ == "__main__":
    main()
