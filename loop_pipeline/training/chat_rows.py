"""Which rows a base can learn from, as its template takes them, and why it cannot from the others.

Not here: their tokens (``qlora/tokens.py``), and which rows are in a set (``training/dataset``).

No row may end a training: what the template refuses is left out with a reason, and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from loop_pipeline.traces.student_turns import NotAText, student_turns
from loop_pipeline.training.qlora.tokens import Encoded, Log, Row, encode, rendered

NO_CALLS = "the base's template knows no tool calls"
MARKS = "a text holds the base's own control mark"


class LeftOut(ValueError):
    """A row that cannot be learned from; says why."""


def renderable(
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    answers: Sequence[str] = ("completion",),
) -> tuple[list[Row], dict[str, int]]:
    """Rows as the base's template takes them, and for which reasons how many are left out.

    Args:
        tokenizer: of the base.
        rows: of a set.
        answers: fields of a row that hold an answer.
    """
    marks = _marks(tokenizer)
    found: list[Row] = []
    why: Counter[str] = Counter()
    for row in rows:
        try:
            found.append(_as_rendered(tokenizer, row, answers, marks))
        except LeftOut as error:
            why[str(error)] += 1
    return found, dict(why)


def encode_usable(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row], max_length: int, log: Log
) -> tuple[list[Encoded], int]:
    """As ``encode``, of the training rows that can be learned from.

    Args:
        tokenizer: of the base.
        rows: of a set.
        max_length: tokens of a row, at most.
        log: told why rows are left out.

    Raises:
        ValueError: none can be learned from; says why.
    """
    found, why = renderable(tokenizer, rows)
    encoded, shortened = encode(tokenizer, found, max_length)
    if len(encoded) < len(found):
        why[f"the answer takes more than half of {max_length} tokens"] = len(found) - len(encoded)
    for reason, count in why.items():
        log(f"{count} of {len(rows)} training rows are left out: {reason}")
    if not encoded:
        raise ValueError(f"no training row can be learned from by this base: {'; '.join(why)}")
    return encoded, shortened


def _marks(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Texts that the tokenizer takes for control tokens, wherever they stand."""
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special} | {*tokenizer.all_special_tokens}
    return sorted(mark for mark in special if mark.strip())


def _as_rendered(
    tokenizer: PreTrainedTokenizerFast, row: Row, answers: Sequence[str], marks: Sequence[str]
) -> Row:
    """The row with its turns as the template takes them.

    Raises:
        LeftOut: it does not take them.
    """
    try:
        prompt = student_turns(row["prompt"])
    except NotAText as error:
        raise LeftOut(f"its prompt cannot be read by a text model: {error}") from None
    if any("tool_calls" in turn for turn in prompt):
        if "tool_calls" not in str(tokenizer.chat_template):
            raise LeftOut(NO_CALLS)
        prompt = [_with_arguments(turn) for turn in prompt]
    made = {**row, "prompt": prompt}
    texts = json.dumps([prompt, *(row[name] for name in answers)], ensure_ascii=False)
    if any(json.dumps(mark, ensure_ascii=False)[1:-1] in texts for mark in marks):
        raise LeftOut(MARKS)
    for name in answers:
        _render(tokenizer, {"prompt": prompt, "completion": row[name]})
    return made


def _render(tokenizer: PreTrainedTokenizerFast, row: Row) -> None:
    try:
        rendered(tokenizer, row)
    except Exception as error:  # noqa: BLE001  a template is its maker's program
        said = " ".join(str(error).split())[:100]
        raise LeftOut(f"the base's template refuses it: {said}") from None


def _with_arguments(turn: dict[str, Any]) -> dict[str, Any]:
    """Calls with their arguments as values, as the server hands them to the template."""
    calls = turn.get("tool_calls")
    if not isinstance(calls, list):
        return turn
    return {**turn, "tool_calls": [_parsed(call) for call in calls]}


def _parsed(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
