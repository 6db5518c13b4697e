"""One request in full: conversation, answer, decision, doubts, other answers, feedback.

Not here: finding its rows (``admin_server.py`` asks the spool first, then the store).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.gateway.admin.decision_words import decision_words, logprob_lines
from loop_pipeline.gateway.admin.figures.live_row import cost_of, moment_of
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.incoming.live_sums import lane_of
from loop_pipeline.store.tables import (
    CheckpointRow,
    ContractRow,
    FeedbackRow,
    HallucinationFlagRow,
    TraceRow,
)

# The name of the frontier among the answers beside the one that went out.
FRONTIER, AGAIN = "frontier", "again"
FACTS = ("prompt_id", "app", "task", "conversation_id", "model", "served_model", "finish_reason")
TIMES = ("latency_ms", "first_byte_ms")
COUNTS = ("tokens_in", "tokens_cached", "tokens_out", "retries")


def stored_request(
    engine: Engine, prompt_id: str, adapters: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any] | None]:
    """What the store has of a request.

    Args:
        engine: the store.
        prompt_id: of the request.
        adapters: names of models besides the trained students.

    Returns:
        Its traces (the one that went out first), its feedback, and its hallucination flag.
    """
    with engine.connect() as connection:
        students = connection.scalars(select(CheckpointRow.checkpoint_id))
        names = {FRONTIER, AGAIN, *map(adapter_name, students), *adapters}
        ids = [prompt_id, *sorted(f"{prompt_id}~{name}" for name in names)]
        found = connection.execute(
            select(TraceRow.__table__, ContractRow.body.label("contract"))
            .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
            .where(TraceRow.prompt_id.in_(ids))
        )
        traces = [dict(row) for row in found.mappings()]
        said = select(FeedbackRow.__table__).where(FeedbackRow.prompt_id == prompt_id)
        feedback = [dict(row) for row in connection.execute(said.order_by("ts")).mappings()]
        own = select(HallucinationFlagRow.__table__).where(
            HallucinationFlagRow.prompt_id == prompt_id
        )
        flag = connection.execute(own).mappings().first()
    return sorted(traces, key=lambda row: row["prompt_id"]), feedback, dict(flag) if flag else None


def one_request(
    traces: Sequence[Mapping[str, Any]],
    *,
    feedback: Sequence[Mapping[str, Any]],
    flag: Mapping[str, Any] | None,
    groups: Mapping[str, str],
) -> dict[str, Any]:
    """A request as ``/page/requests/<prompt_id>`` gives it.

    Args:
        traces: of the request, the one that went out first.
        feedback: on it, from spool and store.
        flag: its hallucination flag in the store; else the one in ``route`` counts.
        groups: names by id.
    """
    main, others = traces[0], traces[1:]
    route = main.get("route") or {}
    flag = flag or route.get("flag")
    spans = flag.get("spans") if isinstance(flag, Mapping) else None
    return {
        **{name: main.get(name) for name in (*FACTS, *TIMES)},
        **{name: main.get(name) or 0 for name in COUNTS},
        "ts": moment_of(main).isoformat(timespec="milliseconds"),
        "lane": lane_of(main) if route else "frontier",
        "cost_usd": cost_of(main),
        "conversation": [_turn(message) for message in main.get("messages") or []],
        "answer": pieces(str(main.get("output") or ""), spans or []),
        "output": str(main.get("output") or ""),
        "decision": decision_words(main, groups.get(str(route.get("group_id")))) if route else [],
        "route": route,
        "logprobs": logprob_lines(main.get("logprobs")),
        "flag": _flag(flag),
        "others": [_other(main, other) for other in others],
        "feedback": _feedback(feedback),
    }


def pieces(text: str, spans: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A text cut where doubtful places begin and end; ``why`` says what is doubtful, else None.

    Cut here and not in the browser, which counts characters in another way.
    """
    cut: list[dict[str, Any]] = []
    at = 0
    for span in sorted(spans, key=lambda s: int(s.get("start") or 0)):
        start, end = max(at, int(span.get("start") or 0)), min(len(text), int(span.get("end") or 0))
        if start >= end:
            continue
        if start > at:
            cut.append({"text": text[at:start], "why": None})
        cut.append({"text": text[start:end], "why": str(span.get("why") or "not supported")})
        at = end
    if at < len(text) or not cut:
        cut.append({"text": text[at:], "why": None})
    return cut


def _turn(message: Mapping[str, Any]) -> dict[str, str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = [_part(part) for part in parts if part is not None]
    calls = message.get("tool_calls") or []
    texts += [f"[calls a tool: {_call(call)}]" for call in calls]
    return {"role": str(message.get("role") or "?"), "text": "\n".join(texts)}


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    return f"[{kind}, not shown]"


def _call(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return str(call)
    return f"{function.get('name')}({function.get('arguments')})"


def _flag(flag: Any) -> dict[str, Any] | None:
    if not isinstance(flag, Mapping):
        return None
    return {
        "flagged": bool(flag.get("flag")),
        "grounded": flag.get("grounded"),
        "score": flag.get("score"),
        "tier": flag.get("tier"),
        "reasons": [str(reason) for reason in flag.get("reasons") or []],
    }


def _other(main: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    contract = main.get("contract")
    contract = contract if isinstance(contract, Mapping) else None
    output, route = str(other.get("output") or ""), other.get("route") or {}
    who = "frontier, asked again" if route.get(AGAIN) else route.get("adapter")
    return {
        "who": who or other.get("producer"),
        "producer": other.get("producer"),
        "output": output,
        "agrees": agrees(str(main.get("output") or ""), output, contract),
        "latency_ms": other.get("latency_ms"),
        "cost_usd": cost_of(other),
        "logprobs": logprob_lines(other.get("logprobs")),
        "settled": route.get("settled"),
    }


def _feedback(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each piece once, though it may be in the spool and in the store for a moment."""
    once: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        ts = row["ts"] if isinstance(row["ts"], dt.datetime) else moment_of(row)
        shown = {name: row.get(name) for name in ("kind", "value", "edited_output", "actor")}
        shown["ts"] = ts.isoformat(timespec="milliseconds")
        once[tuple(shown.values())] = shown
    return sorted(once.values(), key=lambda shown: shown["ts"])
