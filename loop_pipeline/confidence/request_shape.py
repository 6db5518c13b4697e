"""What a request looks like, as numbers: lengths, digits, formulae, the form of the question.

Not here: what is made of them (``request_score.py``).
"""

from __future__ import annotations

import math
import re

from loop_pipeline.traces.messages import MAX_CHARS

_LIST_ITEM = re.compile(r"\n\s*(?:[A-Za-z0-9]{1,2}[.)]|[-*])\s+")
_NEGATIONS = frozenset((b"not", b"except", b"never", b"least", b"incorrect", b"false"))
_DIGITS = b"0123456789"
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FORMULA = b"\\$^_{}=+*/<>()"
# Bytes count several times faster than regular expressions; whatever is no letter parts words.
_SPACED = bytes(c if c >= 128 or chr(c).isalnum() or c == 95 else 32 for c in range(256))


def _count(raw: bytes, wanted: bytes) -> int:
    return len(raw) - len(raw.translate(None, wanted))


def shape(text: str) -> dict[str, float]:
    """What a request looks like: lengths, numbers, formulae, form of the question."""
    text = text[:MAX_CHARS]
    size = max(len(text), 1)
    question, *listed = _LIST_ITEM.split(text)
    items = [len(i) for i in listed] or [0]
    raw = text.encode("utf-8", "surrogatepass")
    words = raw.lower().translate(_SPACED).split()
    asked = question.lower().encode("utf-8", "surrogatepass")
    digits, formula = _count(raw, _DIGITS), _count(raw, _FORMULA)
    return {
        "length": math.log1p(len(text)),
        "question_length": math.log1p(len(question)),
        "longest_item": math.log1p(max(items)),
        "shortest_item": math.log1p(min(items)),
        "items": math.log1p(len(items)),
        "digits": math.log1p(digits),
        "digit_share": digits / size,
        "formula": math.log1p(formula),
        "formula_share": formula / size,
        "capital_share": _count(raw, _CAPITALS) / size,
        "number_share": sum(map(bytes.isdigit, words)) / max(len(words), 1),
        "word_length": sum(map(len, words)) / max(len(words), 1),
        "distinct_words": len(set(words)) / max(len(words), 1),
        "lines": math.log1p(text.count("\n")),
        "sentences": math.log1p(question.count(". ")),
        "commas": math.log1p(text.count(",")),
        "negation": float(not _NEGATIONS.isdisjoint(asked.translate(_SPACED).split())),
        "which": float(b"which of the following" in asked),
        "asks": float(question.rstrip().endswith("?")),
    }
