"""When two answers say the same: the one definition that all figures and promises use.

Not here: how good an answer is (``labels/quality``).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from loop_pipeline.answers.contract import UnsupportedContract, known_labels
from loop_pipeline.answers.facts import unsupported_facts
from loop_pipeline.answers.forms.bare_json import NotJSON, read_json
from loop_pipeline.answers.forms.label_forms import Labels, label_in, plain
from loop_pipeline.answers.forms.tag_forms import tags_in
from loop_pipeline.answers.forms.turning_words import turn_alike
from loop_pipeline.answers.said import said
from loop_pipeline.answers.words import words

LEXICAL = 0.8
MEASURES = {
    False: "exact agreement",
    True: f"lexical agreement (ROUGE-L >= {LEXICAL}, same numbers)",
}

Contract = Mapping[str, Any] | None


def kind_of(contract: Contract) -> str:
    """Kind of a contract; no contract, or one that names no kind, is free text."""
    return str(contract.get("kind", "text")) if contract else "text"


def canonical(text: str, contract: Contract) -> str:
    """The form in which two answers that say the same are the same text.

    Labels and tags: as the contract has them, whatever form they were written in, in one case and
    spacing; tags sorted. JSON: without a fence or sentences around it, sorted keys, ``1.0`` is
    ``1``; what does not parse stays as it is. Texts: spacing. All composed (NFC).
    """
    kind, text = kind_of(contract), _composed(said(text))
    squeezed = " ".join(text.split())
    if kind == "label":
        labels = _labels(contract)
        label = label_in(text, labels) if labels and plain(text) not in labels.plain else None
        return _composed(plain(text if label is None else label))
    if kind == "tags":
        return ", ".join(sorted(tags_of(text, contract)))
    if kind == "json":
        parsed = _parsed(text)
        return squeezed if parsed is None else parsed
    return squeezed


def agrees(a: str, b: str, contract: Contract) -> bool:
    """Whether two answers say the same.

    For texts this is lexical: ROUGE-L F1 of at least 0.8, and neither has a number, id, address,
    negation, or number written as a word of Chinese, that the other lacks (one wrong order number
    in seven words would pass ROUGE-L, and so would one "not").
    """
    kind, a, b = kind_of(contract), said(a), said(b)
    if kind == "json":
        parsed = _parsed(a)
        return parsed is not None and parsed == _parsed(b)
    if kind in ("label", "tags"):
        return canonical(a, contract) == canonical(b, contract)
    if rouge_l(a, b) < LEXICAL or not turn_alike(a, b):
        return False
    return not unsupported_facts(a, b) and not unsupported_facts(b, a)


def agreement_of(
    answers: Iterable[str], others: Iterable[str], contracts: Iterable[Any]
) -> list[bool]:
    """Whether two answers each say the same, row by row; what is no contract is none."""
    return [
        agrees(answer, other, contract if isinstance(contract, Mapping) else None)
        for answer, other, contract in zip(answers, others, contracts, strict=True)
    ]


def tags_of(text: str, contract: Contract = None) -> set[str]:
    """The tags of an answer, in one case and spacing; "none" is no tag."""
    labels = _labels(contract)
    parts = [plain(tag) for tag in text.split(",")]
    if labels and not labels.plain.issuperset(parts):
        found = tags_in(text, labels)
        parts = parts if found is None else [plain(tag) for tag in found]
    return {_composed(tag) for tag in parts} - {"", "none"}


def _labels(contract: Contract) -> Labels | None:
    """The labels of a contract; None if it cannot be read."""
    try:
        return known_labels(contract or {})
    except UnsupportedContract:
        return None


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fields_right(output: str, wanted: str, contract: Contract) -> dict[str, bool]:
    """Which fields of a JSON answer are right.

    Args:
        output: the answer.
        wanted: the answer it is compared with; an object, else there is no field to compare.
        contract: kind ``json``; a field that its schema requires counts if ``wanted`` lacks it.

    Returns:
        Field name to whether both hold the same value, or both lack it. An answer that is no object
        has none right.
    """
    right = _object(wanted)
    if right is None:
        return {}
    given = _object(output)
    schema = (contract or {}).get("schema")
    required = schema.get("required") if isinstance(schema, Mapping) else None
    wanted_names = [str(name) for name in required] if isinstance(required, list) else []
    names = [*dict.fromkeys([*wanted_names, *right])]
    if given is None:
        return dict.fromkeys(names, False)
    return {name: given.get(name) == right.get(name) for name in names}


def _object(text: str) -> dict[str, str] | None:
    """Fields of a JSON object, each in its canonical text; None if the text is no object."""
    canonical_text = _parsed(text)
    value = None if canonical_text is None else json.loads(canonical_text)
    if not isinstance(value, dict):
        return None
    return {name: json.dumps(part, sort_keys=True) for name, part in value.items()}


def _parsed(text: str) -> str | None:
    try:
        value, _ = read_json(_composed(said(text)), parse_float=_number, parse_constant=None)
        return json.dumps(value, sort_keys=True)
    except (NotJSON, RecursionError):
        return None


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F1 over words (Lin 2004), without stemming. Two empty texts are equal."""
    first, second = (words(text) for text in (a, b))
    if not first or not second:
        return float(a.split() == b.split())
    return 2 * _common(first, second) / (len(first) + len(second))


def _common(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence, a row of its table in one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(first) - row.bit_count()
