"""A store with traffic, checkpoints that wait, and a stub server that knows how good each is."""

from __future__ import annotations

import datetime as dt
import functools
import json
import zlib
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from loop_pipeline.defs.evaluation import ANSWERED
from loop_pipeline.evaluation.contest import prepare
from loop_pipeline.evaluation.decisions import Bench
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.report.evaluation_tables import write_files
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import read, upsert
from loop_pipeline.store.tables import CheckpointRow, DatasetRow, GroupMemberRow
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.training.dataset.frozen_check import FACTS, FILES, name_of
from loop_pipeline_tests.serving.examples import write_adapter
from loop_pipeline_tests.serving.stub import Stub

LABELS = ("delivery", "refund")
START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)


def label_of(text: str) -> str:
    """What the frontier says to a request."""
    return LABELS[int(text.split("#")[1].split()[0]) % 2]


def fill(engine: Engine, folder: Path, n: int = 1000) -> None:
    """Import traffic and freeze its training split."""
    lines = []
    for i in range(n):
        text = f"please look at #{i} for me, it is about {'parcels' if i % 2 else 'money'} {i}"
        lines.append(
            {
                "prompt_id": f"p{i}",
                "ts": (START + dt.timedelta(minutes=i)).isoformat(),
                "messages": [
                    {"role": "system", "content": "Classify."},
                    {"role": "user", "content": text},
                ],
                "output": label_of(text),
                "model": "claude-opus-5",
                "task": "route" if i % 3 else "triage",
                "contract": {"kind": "label", "labels": list(LABELS)},
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "traffic.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_file(engine, path)
    train = read_traces(engine, split="train")
    rows = [
        {
            "prompt_id": row["prompt_id"],
            "prompt": row["messages"],
            "completion": [{"role": "assistant", "content": row["output"]}],
            "group": row["template_hash"],
        }
        for row in train.to_dict("records")
    ]
    dataset = {
        "dataset_id": _freeze(folder, [json.dumps(row) for row in rows]),
        "created_at": START,
        "folder": str(folder),
        "counts": {"trained_until": (START + dt.timedelta(minutes=n // 2)).isoformat()},
        "validated_pairs": len(rows),
    }
    with engine.begin() as connection:
        upsert(connection, DatasetRow, [dataset])


def _freeze(folder: Path, rows: list[str]) -> str:
    """Write a training set with nothing to validate or prefer. Returns its id."""
    lines = {name: list[str]() for name in FILES} | {"train": rows}
    for name, content in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in content))
    (folder / FACTS).write_text(json.dumps({"sha256": name_of(lines)}))
    return name_of(lines)


def train(engine: Engine, folder: Path, name: str, age: int = 0, **columns: Any) -> str:
    """Add a checkpoint that waits; its id starts with its name. Larger ``age``: made earlier.

    A name of hexadecimal digits only would be taken for the beginning of the weights' sha256.
    """
    key = name.ljust(64, "0")
    adapter = folder / name
    sha256 = write_adapter(adapter, base="org/base", mark=name)
    (adapter / "meta.json").write_text(json.dumps({"base": "org/base"}))
    row = {
        "checkpoint_id": key,
        "created_at": START + dt.timedelta(days=30 - age),
        "dataset_id": read(engine, DatasetRow)["dataset_id"].iloc[0],
        "base_dir": "org/base",
        "adapter_dir": str(adapter),
        "adapter_sha256": sha256,
        "mlflow_run_id": None,
        "model_version": None,
        "metrics": {},
        "status": "candidate",
        "reason": "not evaluated yet",
        **columns,
    }
    with engine.begin() as connection:
        upsert(connection, CheckpointRow, [row])
    return key


def clever(stub: Stub, wrong: dict[str, float]) -> None:
    """Let the stub be wrong on a share of the requests, by the start of a model's name.

    The same requests are hard for everybody, and a wrong answer is an unsure one. The base with
    examples does as well as its share under ``few-shot``.
    """

    def answer(body: dict[str, Any]) -> tuple[str, float]:
        text = body["messages"][-1]["content"]
        name = body["model"].removeprefix("student-")
        if name == "base" and len(body["messages"]) > 2:
            name = "few-shot"
        share = next((w for start, w in wrong.items() if name.startswith(start)), 0.0)
        luck = zlib.crc32(text.encode()) % 1000 / 1000
        right = label_of(text)
        said = right if luck >= share else LABELS[1 - LABELS.index(right)]
        return said, -0.01 - 0.4 * max(0.0, share + 0.01 - luck) - 0.01 * luck

    stub.answer = answer


@functools.cache
def _fitted(texts: tuple[str, ...]) -> Embedder:
    """Every test has the same traffic, and a fit takes seconds."""
    return Embedder.fit(texts, seed=7)


def bench(engine: Engine, stub: Stub, *, again: bool = False) -> Bench:
    """What the asset judges with."""
    settings = load_settings()
    held_out = prepare(
        read_traces(engine, split=ANSWERED, producer="frontier"),
        read(engine, GroupMemberRow),
        read_feedback(engine),
    )
    return Bench(
        write_files=write_files,
        engine=engine,
        settings=settings,
        server=StudentServer(stub.url),
        held_out=held_out,
        embedder=_fitted(tuple(held_out["request_text"])),
        say=lambda _: None,
        again=again,
    )
