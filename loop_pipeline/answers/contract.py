"""Does an answer keep its contract? Deterministic: no statistics, no model.

Not here: JSON schemas (``json_schema.py``); what a text rests on (``labels/hallucination``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from loop_pipeline.answers.facts import unsupported_facts
from loop_pipeline.answers.json_schema import (
    UnsupportedContract,
    check_schema,
    schema_violations,
    short,
)


def check_contract(output: str, contract: Mapping[str, Any] | None, request_text: str) -> list[str]:
    """Reasons why an answer breaks its contract; empty if it keeps it.

    Labels and tags are compared without regard to case and spacing, like agreement is. Texts may
    only hold numbers, ids, URLs and e-mail addresses that occur in the request.

    Args:
        output: the answer.
        contract: label, tags, json or text (see ``ContractRow``); None: nothing to break.
        request_text: everything the answer may rest on: messages and context.

    Raises:
        UnsupportedContract: unknown kind, a JSON schema keyword that is not checked, or a contract
            that cannot be read. Nothing else, whatever the contract holds.
    """
    if contract is None:
        return []
    kind = contract.get("kind") if isinstance(contract, Mapping) else None
    if kind == "label":
        known = _label_set(_labels(contract))
        return [] if _plain(output) in known else [f"label {short(output)} is not in the set"]
    if kind == "tags":
        return _check_tags(output, _label_set(_labels(contract)))
    if kind == "json":
        return _check_json(output, contract.get("schema"))
    if kind == "text":
        return _check_text(output, _max_words(contract), request_text)
    raise UnsupportedContract(
        f"contract kind {short(kind)} is not one of label, tags, json, text; correct the contract"
    )


def _labels(contract: Mapping[str, Any]) -> tuple[str, ...]:
    labels = contract.get("labels")
    if not isinstance(labels, list | tuple) or not all(isinstance(one, str) for one in labels):
        raise UnsupportedContract("the contract has no list of labels; correct the contract")
    return tuple(labels)


def _max_words(contract: Mapping[str, Any]) -> int | None:
    words = contract.get("max_words")
    if words is not None and (isinstance(words, bool) or not isinstance(words, int | float)):
        raise UnsupportedContract("max_words of the contract is no number; correct the contract")
    return None if words is None else int(words)


@lru_cache(maxsize=256)
def _label_set(labels: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_plain(label) for label in labels)


def _check_tags(output: str, known: frozenset[str]) -> list[str]:
    tags = [_plain(tag) for tag in output.split(",")]
    if tags == ["none"]:
        return []
    reasons = [f"tag {short(tag)} is not in the set" for tag in tags if tag not in known]
    twice = sorted(tag for tag, times in Counter(tags).items() if times > 1)
    return reasons + [f"tag {short(tag)} is given twice" for tag in twice]


def _check_text(output: str, max_words: int | None, request_text: str) -> list[str]:
    if not output.strip():
        return ["the answer is empty"]
    words = len(output.split())
    facts = unsupported_facts(output, request_text)
    reasons = [f"{short(fact)} is not in the request" for fact in facts]
    if max_words is not None and words > max_words:
        reasons.append(f"{words} words, {max_words} are allowed")
    return reasons


def _check_json(output: str, schema: Any) -> list[str]:
    try:
        check_schema(schema)
    except RecursionError:
        raise UnsupportedContract("JSON schema: it is nested too deep; correct it") from None
    try:
        value = json.loads(output, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        return [f"not JSON: {error}"]
    return schema_violations(value, schema)


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
