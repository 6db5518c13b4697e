"""Sound inputs of every parser, and the odd ones of the folder of cases, to be damaged.

Not here: damaging them (``fuzz_inputs.py``).
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from loop_pipeline.hashing import canonical
from loop_pipeline.routing.policy_files import signed
from loop_pipeline_tests.faults.case_stages import neighbour
from loop_pipeline_tests.gateway.small_policy import policy
from loop_pipeline_tests.upstream import completion

# A longer one is mostly copied.
MOST_BYTES = 20_000
TURNS = [{"role": "system", "content": "Sort it."}, {"role": "user", "content": "Où est ma clé?"}]
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "find", "arguments": '{"sku": "bell"}'},
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def record_seeds(cases: Path) -> list[bytes]:
    """Traces and feedback: written here, and what the folder holds, if it is there."""
    seeds = [_line(one) for one in RECORDS]
    paths = sorted(cases.rglob("*.json*")) if cases.is_dir() else []
    for path in paths:
        raw = path.read_bytes()
        parts = [raw] if path.suffix == ".json" else raw.split(b"\n")
        seeds += [part for part in parts if part.strip() and len(part) <= MOST_BYTES]
    return seeds


def _line(value: Any) -> bytes:
    return json.dumps(value).encode()


def _review(prompt_id: str) -> dict[str, Any]:
    ts = "2026-09-05T00:00:00Z"
    return {"prompt_id": prompt_id, "kind": "review", "value": 1, "actor": "ann", "ts": ts}


RECORDS: list[dict[str, Any]] = [
    *(neighbour(number) | {"prompt_id": f"seed-{number}"} for number in range(4)),
    neighbour(5)
    | {
        "prompt_id": "seed-5",
        "ts": 1788510600123,
        "user": "u-7",
        "conversation_id": 4711,
        "tools": [{"type": "function", "function": {"name": "find", "parameters": SCHEMA}}],
        "tool_calls": [CALL],
        "output": None,
        "finish_reason": "tool_calls",
        "logprobs": {"min": -1.5, "p10": -0.5},
        "route": {"arm": "student", "propensity": 0.5},
        "contract": {"kind": "json", "schema": SCHEMA},
        "cost_usd": 0.01,
        "latency_ms": 812.5,
        "tags": {"region": "north"},
        "response_id": "chatcmpl-77",
    },
    _review("seed-1"),
    {"prompt_id": "seed-2", "kind": "modified", "edited_output": "x", "ts": 1788510600},
    {"prompt_id": "chatcmpl-seed-3", "kind": "thumb_up", "ts": "2026-09-05T00:00:00+02:00"},
    {"prompt_id": "later", "kind": "rating", "value": 0.5, "ts": "2026-09-05T00:00:00Z"},
]
FEEDBACK = [
    _line({"prompt_id": "p1", "kind": "thumb_up"}),
    _line([{"prompt_id": "p1", "kind": "rating", "value": 0.5, "ts": "2026-09-05T00:00:00Z"}] * 2),
    _line({"prompt_id": "p1", "kind": "modified", "edited_output": "x", "actor": "u"}),
]
LITELLM = [
    _line(
        {
            "id": "chatcmpl-77",
            "call_type": "acompletion",
            "status": "success",
            "startTime": 1_790_000_000.25,
            "endTime": "2026-09-21T12:00:01",
            "completionStartTime": None,
            "model": "gpt-5.5",
            "messages": TURNS,
            "response": json.loads(completion()),
            "prompt_tokens": 21,
            "response_cost": 0.001,
            "end_user": "ada",
        }
    )
]
REQUESTS: dict[str, list[bytes]] = {
    "chat": [
        _line({"model": "m", "messages": TURNS, "max_tokens": 5, "stop": ["x"], "stream": True}),
        _line(
            {
                "model": "m",
                "messages": [*TURNS, {"role": "assistant", "tool_calls": [CALL]}],
                "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
            }
        ),
        completion(),
    ],
    "messages": [
        _line({"model": "m", "max_tokens": 9, "system": "Sort.", "messages": TURNS[1:]}),
        _line(
            {
                "model": "m",
                "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "input": {}}],
                "usage": {"input_tokens": 3, "output_tokens": 2},
            }
        ),
    ],
    "responses": [
        _line({"model": "m", "input": "Where?", "instructions": "Sort.", "max_output_tokens": 5}),
        _line({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
        _line({"output": [{"type": "message", "content": [{"type": "output_text"}]}]}),
    ],
    "completions": [
        _line({"model": "m", "prompt": ["Where?"], "stop": "x"}),
        _line({"choices": [{"text": "here"}]}),
    ],
}
POLICIES = [signed(policy(), b"s" * 32).encode(), canonical(policy().model_dump()).encode()]
ADAPTERS = [_line({"student-aaaaaaaaaaaa": "/a", "student-bbbbbbbbbbbb": "/b"})]
FROZEN = {
    name: [_line({"prompt_id": f"{name}-{n}", "prompt": TURNS}).decode() for n in range(6)]
    for name in ("train", "validation", "preferences", "feedback")
}


def _sheet() -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(["prompt_id", "task", "request", "good", "edited_output", "reviewer", "ts"])
    for number, said in enumerate(("yes", "nein", "👍", "", "perhaps", "1")):
        ts = "2026-09-05T08:00:00Z" if number % 2 else ""
        text = f'He said: "it is late", number {number}\nThanks; bye'
        writer.writerow([f"p{number}", "sort", text, said, "", "ann", ts])
    return out.getvalue().encode()


SHEET = [_sheet(), _sheet().replace(b'","', b'";"'), _sheet().replace(b"\r\n", b"\n")]
SHEET_LINES = [
    _line({"prompt_id": f"p{n}", "good": said, "reviewer": "ann", "ts": "2026-09-05T08:00:00Z"})
    for n, said in enumerate(("yes", "no", "x", 1, None))
]
