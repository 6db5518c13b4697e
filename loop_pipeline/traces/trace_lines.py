"""A trace that was read and checked, and the row it becomes.

Not here: reading and checking (``importers/jsonl.py``, ``plain_lines.py``).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.hashing import digest
from loop_pipeline.traces.messages import answer_text, dedup_key, template_hash, without_answer
from loop_pipeline.traces.records import Trace, split_of
from loop_pipeline.traces.storable import YEARS

DEFAULTS = {
    name: field.get_default(call_default_factory=True)
    for name, field in Trace.model_fields.items()
    if not field.is_required()
} | {"output": ""}
# Columns that have the name and the value of a field.
SAME = (
    *("app", "conversation_id", "task", "messages", "context", "producer", "model"),
    *("tokens_in", "tokens_cached", "tokens_out", "tokens_cache_write", "tokens_cache_write_1h"),
    *("tokens_audio_in", "tokens_audio_out", "tokens_reasoning", "service_tier", "cost_usd"),
    *("latency_ms", "finish_reason", "logprobs"),
    *("route", "simulated", "tools", "parameters", "tool_calls", "served_model", "response_id"),
    *("retries", "first_byte_ms", "tags"),
)


@dataclass(slots=True)
class TraceLine:
    """The fields of ``Trace``, all of them, messages as plain dictionaries; and the line itself."""

    values: dict[str, Any]
    raw: bytes

    @property
    def prompt_id(self) -> str:
        """As it was given; empty: it is derived."""
        return self.values["prompt_id"]

    def rows(
        self, source: str, hash_user: Callable[[str], str], prices: Prices = LIST_PRICES
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The trace as a row of ``traces``, and its contract as a row of ``contracts``.

        Raises:
            ValueError: the time is out of bounds.
        """
        values = self.values
        moment = utc(values["ts"])
        messages = without_answer(values["messages"], values["output"], values["tool_calls"])
        key = dedup_key(messages, values["tools"])
        user = values["user_hash"] or (hash_user(values["user"]) if values["user"] else None)
        contract = values["contract"]
        contract_id = _contract_id(_compact(contract)) if contract else None
        row = {name: values[name] for name in SAME}
        row["user_hash"] = user
        row["output"] = _output(values)
        row["ts"] = moment
        row["day"] = moment.date().isoformat()
        row["messages"] = messages
        row["template_hash"] = template_hash(messages)
        row["contract_id"] = contract_id
        if row["cost_usd"] is None:
            row["cost_usd"] = prices.usd(row)
        row["split"] = split_of(key)
        row["dedup_key"] = key
        row["source"] = source
        row["prompt_id"] = values["prompt_id"] or _derived_id(row)
        return row, {"contract_id": contract_id, "body": contract} if contract_id else None


def trace_line(trace: Trace, raw: bytes = b"") -> TraceLine:
    """A validated trace with its line; without one, its own JSON stands for it."""
    values = dict(trace)
    values["messages"] = [message.model_dump() for message in trace.messages]
    return TraceLine(values, raw or trace.model_dump_json().encode())


def former_id(row: dict[str, Any]) -> str:
    """The id that loop_pipeline 0.1 derived where a line had none."""
    return digest(row["ts"].isoformat(), json.dumps(row["messages"]), row["output"])[:32]


def utc(moment: dt.datetime) -> dt.datetime:
    """The moment in UTC.

    Raises:
        ValueError: the store, or a frame of its rows, cannot hold it.
    """
    low, high = YEARS
    if moment.year == 1 or (moment.year <= 1970 and not moment.timestamp()):
        raise ValueError(f"ts: no time was logged, only a zero ({moment.isoformat()})")
    if not low < moment.year < high:
        raise ValueError(f"ts: the year {moment.year} is not between {low} and {high}")
    return moment.astimezone(dt.UTC)


def _derived_id(row: dict[str, Any]) -> str:
    """Two users who say the same in the same second are two traces."""
    who = (row["user_hash"], row["conversation_id"], row["app"])
    said = (row["messages"], row["tools"], row["output"], row["model"], row["producer"])
    return digest(row["ts"].isoformat(), json.dumps([*who, *said]))[:32]


def _output(values: dict[str, Any]) -> str:
    return values["output"] or answer_text("", values["tool_calls"])


def _compact(contract: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(contract)
    except TypeError:  # a number of more than 64 bits
        return json.dumps(contract).encode()


@lru_cache(maxsize=256)  # few contracts, on every line
def _contract_id(contract: bytes) -> str:
    return digest(json.dumps(json.loads(contract), sort_keys=True))[:16]
