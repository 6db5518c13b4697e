"""Two imports at once of traces that claim the same ids: who keeps what, counted.

Not here: how large they are in a test (``test_conflicting_imports.py``) and in the benchmark.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow

LABELS = {"first": "delivery", "second": "refund"}
SAID = {"first": 1.0, "second": 0.0}
IMPORT = """
import sys, time
from pathlib import Path
from loop_pipeline.store.database import open_store
from loop_pipeline.traces.ingest import import_file
engine = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
done = import_file(engine, Path(sys.argv[2]), reviews=True)
print(done.traces, done.quarantined, done.feedback, done.traces_known, flush=True)
"""


@dataclass
class Outcome:
    """What became of both files."""

    ids: int
    told_new: int
    """Traces that the two imports called new, together."""
    stored: int
    quarantined: int
    lost: int
    """Ids of which the stored answer and the refused one are not both there."""
    moved: int
    """Reviews on an answer that they do not speak of."""
    reviews: int
    """Reviews on stored answers; one is said of each."""


def two_at_once(url: str, folder: Path, ids: int) -> Outcome:
    """Import two files with the same ids and other answers, each review speaking of its own."""
    paths = [_written(folder, name, ids) for name in LABELS]
    told = _run_both(url, paths)
    engine = open_store(url)
    stored = read(engine, TraceRow, columns=["prompt_id", "output"]).set_index("prompt_id")
    reviews = read(engine, FeedbackRow, columns=["prompt_id", "value"])
    held = read(engine, QuarantineRow, columns=["raw", "prompt_id"])
    engine.dispose()
    refused = {line["prompt_id"]: line["output"] for line in map(json.loads, held["raw"])}
    said = {label: SAID[name] for name, label in LABELS.items()}
    answers = stored["output"].to_dict()
    lost = [
        name
        for name in map(_id, range(ids))
        if {answers.get(name), refused.get(name)} != set(LABELS.values())
    ]
    moved = [
        name
        for name, value in zip(reviews["prompt_id"], reviews["value"], strict=True)
        if said[answers[name]] != value
    ]
    return Outcome(
        ids=ids,
        told_new=sum(traces for traces, *_ in told),
        stored=len(answers),
        quarantined=len(held),
        lost=len(lost),
        moved=len(moved),
        reviews=len(reviews),
    )


def _id(number: int) -> str:
    return f"p{number:06d}"


def _written(folder: Path, name: str, ids: int) -> Path:
    path = folder / f"{name}.jsonl"
    order = range(ids) if name == "first" else reversed(range(ids))
    with path.open("w", encoding="utf-8") as file:
        for number in order:
            file.write(json.dumps(_trace(number, name)) + "\n")
    return path


def _trace(number: int, name: str) -> dict[str, object]:
    review = {"kind": "review", "value": SAID[name], "actor": name, "ts": "2026-09-02T00:00:00Z"}
    return {
        "prompt_id": _id(number),
        "ts": "2026-09-01T10:00:00Z",
        "model": "gpt-5.5",
        "messages": [{"role": "user", "content": f"where is order {number}?"}],
        "output": LABELS[name],
        # In another order in each file: who waits for whom must not be a circle.
        "contract": {"kind": "label", "labels": [*LABELS.values(), str(number % 7)]},
        "feedback": [review],
    }


def _run_both(url: str, paths: list[Path]) -> list[tuple[int, ...]]:
    command = [sys.executable, "-c", IMPORT, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, str(path)], **pipes) for path in paths]  # pyright: ignore
    for child in both:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in both:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [child.communicate()[0] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    return [tuple(map(int, line.split())) for line in told]
