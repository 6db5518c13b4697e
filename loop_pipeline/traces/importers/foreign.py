"""Formats of other programs, by their fields: named, so that a person knows what to do.

Not here: reading them; and the loop's own format (``jsonl.py``).
"""

from __future__ import annotations

import json
import re
from typing import Any

from loop_pipeline.traces.storable import MOST_LINE_BYTES

TURN = ("time and model are not in it", "ts, model, messages and output")
CALL = ("a call is in it under other names", "ts, model, messages, output and the tokens")
# Name, fields that say so (of one object, those of an object inside after a dot), what is in it
# and what has to be written. The first that fits counts: the narrower ones stand before the wider.
KNOWN: tuple[tuple[str, tuple[str, ...], tuple[str, str]], ...] = (
    ("an OpenAI Batch input", ("custom_id", "body", "url"), ("no answer is in it", CALL[1])),
    (
        "an OpenAI Batch output",
        ("custom_id", "response"),
        ("no request is in it: join it with the input file by custom_id", CALL[1]),
    ),
    (
        "results of Anthropic's Message Batches",
        ("custom_id", "result"),
        ("no request is in it: join it with the requests by custom_id", CALL[1]),
    ),
    ("a LiteLLM log", ("call_type", "startTime"), CALL),
    ("a Langfuse export", ("trace", "observations"), CALL),
    ("a Langfuse export", ("traceId", "type", "startTime"), CALL),
    ("OpenTelemetry spans (OTLP)", ("resourceSpans",), CALL),
    ("OpenInference (Phoenix) spans", ("span_kind", "context.span_id"), CALL),
    ("an MLflow trace", ("spans", "request_id"), CALL),
    ("an MLflow trace", ("spans",), CALL),
    ("an MLflow trace", ("info", "data.spans"), CALL),
    ("LangSmith runs", ("run_type", "inputs"), CALL),
    ("W&B Weave calls", ("op_name", "inputs"), CALL),
    ("Helicone requests", ("request_id", "request_body"), CALL),
    ("Helicone requests", ("request_id", "request_path"), CALL),
    ("promptfoo results", ("results.results",), CALL),
    ("TensorZero data points", ("function_name", "input"), CALL),
    ("logs of NVIDIA's data flywheel", ("workload_id", "request", "response"), CALL),
    ("a Dify export", ("data", "has_more"), CALL),
    ("a Dify export", ("query", "answer", "message_tokens"), CALL),
    ("Open WebUI feedback", ("data.rating", "snapshot"), CALL),
    ("distilabel rows", ("instruction", "generation"), TURN),
    ("Alpaca rows", ("instruction", "output"), TURN),
    ("ShareGPT conversations", ("conversations",), TURN),
    ("DPO rows", ("chosen", "rejected"), TURN),
    ("KTO rows", ("messages", "label"), TURN),
    ("KTO rows", ("prompt", "completion", "label"), TURN),
    ("prompt-completion rows", ("prompt", "completion"), TURN),
)
SHEET = "a sheet of reviews: loop review import FILE --reviewer NAME"
# The names of a sheet's columns are no longer than this.
MOST_HEAD = 2000
OURS = ("ts", "model", "output", "prompt_id")


def foreign_format(line: str) -> str | None:
    """What a line is that is no trace of ours, and what to do; None: nothing known."""
    value = _object(line)
    if value is None:
        names = {name.strip('" \ufeff').lower() for name in re.split("[,;\t]", line[:MOST_HEAD])}
        return SHEET if {"prompt_id", "good"} <= names else None
    if {"prompt_id", "good"} <= value.keys():
        return SHEET
    for name, fields, (what, needed) in KNOWN:
        if all(_has(value, field) for field in fields):
            return f"{name}: {what}; write {needed} as docs/reference/trace-format.md has them"
    if "messages" in value and not value.keys() & set(OURS):
        said = "OpenAI chat fine-tuning rows: time and model are not in it"
        return f"{said}; write {TURN[1]} as docs/reference/trace-format.md has them"
    return None


def _has(value: dict[str, Any], name: str) -> bool:
    if name in value:
        return True
    outer, _, inner = name.partition(".")
    inside = value.get(outer)
    return bool(inner) and isinstance(inside, dict) and inner in inside


def _object(line: str) -> dict[str, Any] | None:
    if len(line) > MOST_LINE_BYTES:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
