"""Which label an answer names, however it is dressed up: full stops, quotes, "The answer is:".

Not here: tags and the rest of the contract (``tag_forms.py``); JSON (``bare_json.py``).

Layer after layer is taken off, and after each the rest is compared with the labels as a whole: a
label inside other words ("not delivery", "delivery late") is never found. What was taken off may
name no other label, for then nobody knows which is meant.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import regex

from loop_pipeline.answers.forms.answer_words import LEADING, RETRACTING, SPACELESS_LEAD
from loop_pipeline.answers.words import SPACELESS, count_words

# Signs that stand around an answer in pairs, and mean nothing.
PAIRS = dict.fromkeys("\"'`*_~", "") | {
    "“": "”",
    "”": "”",
    "„": "“”",
    "‘": "’",
    "’": "’",
    "‚": "‘’",
    "«": "»",
    "»": "«",
    "‹": "›",
    "「": "」",
    "『": "』",
    "《": "》",
    "【": "】",
    "（": "）",
    "［": "］",
    "(": ")",
    "[": "]",
    "{": "}",
    "<": ">",
}
# At the end of an answer. No question mark, which asks, and no "…", where something is missing.
STOPS = ".!,;:\u3002\uff0e\uff01\uff0c\u3001\uff1b\uff1a\u0964\u06d4\u060c"
UNFINISHED = ("..", "\u2026", "?", "\uff1f", "\u061f")
# Invisible, or a mark of the byte order.
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
# Of a list, or a heading; before a number a sign may belong to it.
_MARK = re.compile(r"[-*+•·‣–—>]\s+(?!\d)|(?:\d{1,2}[.)]|#{1,6})\s+|#(?=\w)")
_TAG = re.compile(r"<(\w{1,30})>(.*)</\1>", re.DOTALL)
_FENCE = re.compile(r"(`{3,}|~{3,})\w*\n(.*)\n\1", re.DOTALL)
_LEAD = re.compile(r"(?P<lead>[^:：=\n]{1,60}?)\s*[:：=]\s*(?P<rest>.*)", re.DOTALL)
_STATED = re.compile(
    r"(?P<lead>[^:：=\n]{0,60}?\b(?:is|are|as|be|ist|sind|lautet|est|sont|es|son|هي|هو))\s+(?P<rest>.+)",
    re.DOTALL | re.IGNORECASE,
)
_JOINED = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
_WIDE = re.compile("[\uff00-\uffef\u3000]+")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
# An explanation after the label: on lines of its own, or from a full stop or "because" on.
_EXPLAINED = re.compile(
    r"(?P<label>.{1,200}?)\s*(?:\n\s*|[.。]\s+|[.。](?=\w)|,?\s+(?=(?:because|since|weil|da|parce "
    r"que|car|porque|ya que)\s)|[,，]?(?=因为|因為|なぜなら))(?P<why>\S.*)",
    re.DOTALL | re.IGNORECASE,
)
LEAST_WORDS = 3
# Of one answer, with and without layers; more are no answer but a text.
FORMS = 40
# Longer answers are texts.
MOST_CHARS = 4000


class Labels(NamedTuple):
    """The labels of a contract, ready to be found."""

    plain: frozenset[str]
    """Without regard to case and spacing: an answer in this form keeps its contract."""
    spelling: dict[str, str]
    """The contract's own spelling by a form in which little counts; without ambiguous ones."""
    named: regex.Pattern[str]
    """Finds every label inside other words, the longest first."""


def plain(text: str) -> str:
    """A label without regard to case and spacing."""
    return " ".join(text.split()).casefold()


@lru_cache(maxsize=256)
def labels_of(labels: tuple[str, ...]) -> Labels:
    """Prepare the labels of a contract."""
    spelling: dict[str, str] = {}
    clash: set[str] = set()
    for fold in (_folded, _loose):  # closer forms first: they win
        for label in labels:
            key = fold(label)
            if plain(spelling.setdefault(key, label)) != plain(label):
                clash.add(key)
    parts = sorted({_folded(label) for label in labels} - {""}, key=len, reverse=True)
    named = "|".join(_bounded(part) for part in parts)
    return Labels(
        frozenset(plain(label) for label in labels),
        {key: label for key, label in spelling.items() if key and key not in clash},
        regex.compile(named or r"(?!)"),
    )


def _folded(text: str) -> str:
    """Composed, no full-width forms, nothing invisible, one case."""
    if not text.isascii():
        # Only width is taken off: all of NFKC would make 52 of "5²".
        text = _WIDE.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), text)
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return plain(text)


def _loose(text: str) -> str:
    """Blanks, hyphens and underscores alike: "cancel order" is ``cancel_order``."""
    return _JOINED.sub(" ", _folded(text)).strip()


def _bounded(label: str) -> str:
    # Beside a script without spaces a word may begin or end as well.
    first = rf"(?:(?<![\p{{L}}\p{{M}}\p{{N}}])|(?<=[{SPACELESS}]))" if label[0].isascii() else ""
    last = rf"(?:(?![\p{{L}}\p{{M}}\p{{N}}])|(?=[{SPACELESS}]))" if label[-1].isascii() else ""
    return first + regex.escape(label) + last


def label_in(answer: str, labels: Labels, *, explained: bool = True) -> str | None:
    """The label that an answer names; None if that is not certain.

    Args:
        answer: what was said.
        labels: of the contract.
        explained: whether an explanation may follow the label.

    Returns:
        The label in the contract's spelling.
    """
    if len(answer) > MOST_CHARS:
        return None
    label = _bare_label(answer, labels)
    if label is None and explained and (parts := _EXPLAINED.match(answer.strip())):
        label = _bare_label(parts["label"], labels) if _explains(parts["why"]) else None
    return label if label is not None and _alone(answer, label, labels) else None


def _bare_label(text: str, labels: Labels) -> str | None:
    found = (exactly(bare, labels) for bare in without_layers(text))
    return next((label for label in found if label is not None), None)


def exactly(text: str, labels: Labels) -> str | None:
    """The label that a text is, but for case, width, composition, and how its words are joined."""
    return labels.spelling.get(_folded(text)) or labels.spelling.get(_loose(text))


def _alone(answer: str, label: str, labels: Labels) -> bool:
    """Whether an answer names no other label."""
    named = {match[0] for match in labels.named.finditer(_folded(answer))}
    return named <= {_folded(label)}


def _explains(why: str) -> bool:
    """Whether the rest of an answer is an explanation, and takes nothing back."""
    return count_words(why) >= LEAST_WORDS and RETRACTING.isdisjoint(_WORD.findall(why.casefold()))


def without_layers(answer: str) -> Iterator[str]:
    """An answer, and all that may be left of it as layer after layer is taken off."""
    left = [_INVISIBLE.sub("", answer).strip()]
    for text in left:
        yield text
        if len(left) < FORMS:
            left += [inner for inner in _inside(text) if inner and inner not in left]


def _inside(text: str) -> Iterator[str]:
    """A text without one of the layers that may be its outermost."""
    for form in (_FENCE, _TAG):
        if match := form.fullmatch(text):
            yield match[2].strip()
    if text[:1] in ("{", "[") and (named := _in_json(text)) is not None:
        yield named
    if match := _MARK.match(text):
        yield text[match.end() :].strip()
    if len(text) > 1 and text[-1] in (PAIRS.get(text[0]) or text[0]) and text[0] in PAIRS:
        yield text[1:-1].strip()
    if text.endswith(tuple(STOPS)) and not text.endswith(UNFINISHED):
        yield text[:-1].rstrip()
    yield from _without_lead(text)


def _in_json(text: str) -> str | None:
    """The only text in a JSON object or list."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    inside = list(value.values()) if isinstance(value, dict) else value
    return inside[0] if isinstance(inside, list) and [type(x) for x in inside] == [str] else None


def _without_lead(text: str) -> Iterator[str]:
    """What comes after "Label:", "The answer is" and the like.

    Only known words may stand there: "Not:", "Everything but:" and "Instead of:" say the opposite.
    """
    if match := SPACELESS_LEAD.match(text):
        yield text[match.end() :].strip()
    for form in (_LEAD, _STATED):
        match = form.fullmatch(text)
        if match and LEADING.issuperset(_WORD.findall(match["lead"].casefold())):
            rest = match["rest"].strip()
            # "**Label:** delivery": the sign that closes bold stands after the colon.
            yield rest.lstrip("*_ ") if match["lead"].lstrip()[:1] in ("*", "_") else rest
            yield rest
