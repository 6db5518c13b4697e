"""Files of other programs are named, with what to do; nothing of them goes to quarantine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import count
from loop_pipeline.store.tables import QuarantineRow, TraceRow
from loop_pipeline.traces.importers.foreign import foreign_format
from loop_pipeline.traces.importers.import_files import UnreadableFile, files_in
from loop_pipeline.traces.ingest import import_file

CASES = Path(os.environ.get("LOOP_CASES") or Path(__file__).parents[4] / "shared" / "cases")
TURNS = [{"role": "user", "content": "Pump lost"}, {"role": "assistant", "content": "delivery"}]
CALL = {"model": "gpt-5-mini", "messages": TURNS[:1]}
FORMATS: dict[str, tuple[str, Any]] = {
    "fine-tuning": ("OpenAI chat fine-tuning", {"messages": TURNS, "tools": []}),
    "batch input": ("Batch input", {"custom_id": "r", "url": "/v1/chat/completions", "body": CALL}),
    "batch output": ("Batch output", {"custom_id": "r", "response": {"body": {}}}),
    "anthropic": ("Message Batches", {"custom_id": "g", "result": {"type": "errored"}}),
    "litellm": ("LiteLLM", {"call_type": "acompletion", "startTime": 1.0} | CALL),
    "langfuse": ("Langfuse", {"trace": {}, "observations": []}),
    "otlp": ("OpenTelemetry", {"resourceSpans": [{"scopeSpans": []}]}),
    "openinference": ("OpenInference", {"span_kind": "LLM", "context.span_id": "s"}),
    "mlflow": ("MLflow", {"spans": []}),
    "mlflow 3": ("MLflow", {"info": {}, "data": {"spans": []}}),
    "langsmith": ("LangSmith", {"run_type": "llm", "inputs": {"messages": TURNS}}),
    "weave": ("Weave", {"op_name": "weave:///x", "inputs": CALL}),
    "helicone": ("Helicone", {"request_id": "h", "request_body": CALL}),
    "promptfoo": ("promptfoo", {"evalId": "e", "results": {"results": []}}),
    "sharegpt": ("ShareGPT", [{"conversations": [{"from": "human", "value": "x"}]}]),
    "alpaca": ("Alpaca", [{"instruction": "Sort.", "input": "x", "output": "y"}]),
    "kto": ("KTO", {"messages": TURNS, "label": True}),
    "dpo": ("DPO", {"prompt": "x", "chosen": "a", "rejected": "b"}),
    "tensorzero": ("TensorZero", {"function_name": "f", "input": "{}", "output": None}),
    "flywheel": ("data flywheel", {"workload_id": "w", "request": CALL, "response": {}}),
    "dify": ("Dify", {"limit": 20, "has_more": False, "data": []}),
    "open webui": ("Open WebUI", [{"data": {"rating": 1}, "snapshot": {}, "meta": {}}]),
    "distilabel": ("distilabel", {"instruction": "x", "generation": "y", "model_name": "m"}),
    "sheet": ("loop review import", {"prompt_id": "p1", "good": "yes"}),
}

Make = Callable[..., dict[str, Any]]


def _refused(engine: Engine, path: Path) -> str:
    with pytest.raises(UnreadableFile) as error:
        import_file(engine, path)
    assert count(engine, QuarantineRow) == count(engine, TraceRow) == 0
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "value"), FORMATS.values(), ids=FORMATS)
def test_a_foreign_file_is_named(engine: Engine, tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "export"
    for text in (f"{json.dumps(value)}\n" * 3, json.dumps(value), json.dumps(value, indent=1)):
        path.write_text(text)
        said = _refused(engine, path)
        assert name in said
        assert str(path) in said


def test_a_sheet_of_reviews_is_named(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('\ufeff"prompt_id";"task";"good"\n"p1";"sort";"yes"\n', "utf-8")
    assert "loop review import" in _refused(engine, path)


def test_lines_of_ours_among_foreign_ones_come_in(
    engine: Engine, trace: Make, tmp_path: Path
) -> None:
    """A log of several programs: what is ours is stored, the rest is in quarantine, named."""
    path = tmp_path / "mixed.jsonl"
    lines = [{"messages": TURNS, "label": True}, trace(1), {"spans": []}, {"ts": 1} | CALL]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = import_file(engine, path)
    assert (done.traces, done.quarantined) == (1, 3)


def test_a_trace_that_lacks_a_field_is_ours(engine: Engine, trace: Make, tmp_path: Path) -> None:
    path = tmp_path / "ours.jsonl"
    line = trace(1)
    del line["output"]
    path.write_text(json.dumps(line))
    assert import_file(engine, path).quarantined == 1
    assert foreign_format(json.dumps(line)) is None


@pytest.mark.parametrize("line", ["", "{", "7", "[" * 9000, '{"messages": 3}', "prompt_id"])
def test_what_is_nothing_known_has_no_name(line: str) -> None:
    named = foreign_format(line)
    assert named is None or "fine-tuning" in named


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    for name in ("b.jsonl", "a/c.jsonl", "a/.hidden/d.jsonl", ".e"):
        (tmp_path / name).write_text("{}")
    found = [str(path.relative_to(tmp_path)) for path in files_in([tmp_path])]
    assert found == ["a/c.jsonl", "b.jsonl"]
    assert files_in([tmp_path / "gone"]) == [tmp_path / "gone"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="without a file"):
        files_in([tmp_path / "empty"])


FOREIGN = sorted((CASES / "formats").glob("*")) if CASES.is_dir() else []


@pytest.mark.skipif(not FOREIGN, reason=f"no cases in {CASES}: name their folder in LOOP_CASES")
@pytest.mark.parametrize("path", FOREIGN, ids=[path.name for path in FOREIGN])
def test_every_foreign_file_of_the_cases_is_named(engine: Engine, path: Path) -> None:
    assert "it looks like" in _refused(engine, path)
