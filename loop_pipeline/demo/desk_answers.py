"""The true answers of the simulated support desk, worked out from what a customer wrote.

Not here: writing requests (``simulated_desk.py``) and serving answers (``simulated_frontier.py``).

The grammar of ``phrases`` is read backwards: each phrase becomes a pattern, slips of the finger are
undone, and the truth follows from what was said by the rules it was made by.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loop_pipeline.demo import phrases
from loop_pipeline.demo.simulated_desk import TASKS

PLAIN = (
    "I am a simulated frontier: I know the requests of the simulated support desk, with the system "
    "prompts " + ", ".join(repr(system) for _, system, _ in TASKS.values()) + ". Not this one."
)
_PRODUCT = "|".join(phrases.PRODUCTS)
_THING = (
    r"(?P<thing>(?:the|my) (?:" + _PRODUCT + r")(?: from order \d{5}| \(order \d{5}\))?"
    r"|(?:my )?order (?:no\. |#)?\d{5}|it)"
)
_SLOTS = {
    "thing": _THING,
    "other": f"(?:{_PRODUCT})",
    "city": "(?P<city>" + "|".join(phrases.CITIES) + ")",
    "date": r"\d{1,2} (?:" + "|".join(phrases.MONTHS) + ")",
    "amount": r"\d+",
    "name": "(?:" + "|".join(phrases.NAMES) + ")",
}
_PARTS = re.compile(r"\[([^]]*)\]|\{(\w+)\}")


def desk_answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a frontier that is always right answers; a plain sentence if it is no desk's request."""
    system = " ".join(_text(m) for m in messages if m.get("role") in ("system", "developer"))
    asked = [_text(m) for m in messages if m.get("role") == "user"]
    task = next((name for name, (_, words, _) in TASKS.items() if words == system.strip()), None)
    if task is None or not asked:
        return PLAIN
    text = _spelt_right(" ".join(asked[-1].split()))
    found = _labels_of(text)
    if not found:
        return _guess(task, text)
    label, match = found
    if task == "classify":
        return label
    return _tags(text, label) if task == "tag" else _summary(text, label, match)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def _labels_of(text: str) -> tuple[str, re.Match[str]] | None:
    """What it is about: of two meanings one by a coin of the text, of two concerns the first."""
    for pair, patterns in _ambiguous().items():
        if match := _first(patterns, text):
            coin = hashlib.sha256(text.encode()).digest()[0] % 2
            return pair[coin], match
    for label, patterns in _bodies().items():
        if match := _first(patterns, text):
            return label, match
    return None


def _first(patterns: Iterable[re.Pattern[str]], text: str) -> re.Match[str] | None:
    found = [match for pattern in patterns if (match := pattern.search(text))]
    # "… please cancel it" fits two phrases; the one that names the thing is the one that was meant.
    return min(found, key=lambda match: match.groupdict().get("thing") == "it", default=None)


def _moods(text: str) -> set[str]:
    return {mood for mood, pattern in _mood_patterns().items() if pattern.search(text)}


def _tags(text: str, label: str) -> str:
    return ", ".join(sorted({*phrases.TAGS_OF[label], *_moods(text)})) or "none"


def _summary(text: str, label: str, match: re.Match[str]) -> str:
    said = match.groupdict()
    thing = said.get("thing") or ""
    order, product = re.search(r"\d{5}", thing), re.search(_PRODUCT, thing, re.IGNORECASE)
    kind = "both" if order and product else "order" if order else "product"
    about = phrases.OBJECTS[kind].format(
        order=order[0] if order else "", product=product[0] if product else "item"
    )
    start = "Urgent: customer" if "urgent" in _moods(text) else "Customer"
    words = phrases.SUMMARIES[label].format(object=about, city=said.get("city") or "elsewhere")
    return f"{start} {words}."


def _guess(task: str, text: str) -> str:
    """For words of somebody's own: the label that shares the most of them, if any."""
    said = set(re.findall(r"[a-z]{4,}", text.lower()))
    shared = {label: len(said & words) for label, words in _words_by_label().items()}
    label = max(shared, key=lambda name: shared[name])
    if not shared[label] or task == "summarise":
        return PLAIN
    return label if task == "classify" else _tags(text, label)


def _spelt_right(text: str) -> str:
    slips = _slips()
    return re.sub(r"[A-Za-z]{3,}", lambda word: slips.get(word[0].lower(), word[0]), text)


@functools.cache
def _bodies() -> dict[str, list[re.Pattern[str]]]:
    return {label: [_pattern(t) for t in texts] for label, texts in phrases.BODIES.items()}


@functools.cache
def _ambiguous() -> dict[tuple[str, str], list[re.Pattern[str]]]:
    return {pair: [_pattern(t) for t in texts] for pair, texts in phrases.AMBIGUOUS.items()}


@functools.cache
def _mood_patterns() -> dict[str, re.Pattern[str]]:
    return {mood: _pattern(template) for mood, (_, template) in phrases.MOODS.items()}


def _pattern(template: str) -> re.Pattern[str]:
    """A pattern for everything a template can become, whatever the case of its letters."""
    return re.compile(rf"\b{_source(template)}(?!\w)", re.IGNORECASE)


def _source(template: str) -> str:
    parts, end = [], 0
    for found in _PARTS.finditer(template):
        parts.append(re.escape(template[end : found.start()]))
        choices, slot = found.groups()
        parts.append(
            _SLOTS[slot]
            if slot
            else "(?:" + "|".join(_source(choice) for choice in choices.split("|")) + ")"
        )
        end = found.end()
    return "".join([*parts, re.escape(template[end:])])


@functools.cache
def _words_by_label() -> dict[str, set[str]]:
    every = {
        label: set(re.findall(r"[a-z]{4,}", re.sub(r"\{\w+\}", " ", " ".join(texts).lower())))
        for label, texts in phrases.BODIES.items()
    }
    common = {word for words in every.values() for word in words}
    common = {word for word in common if sum(word in words for words in every.values()) > 2}
    return {label: words - common for label, words in every.items()}


@functools.cache
def _slips() -> dict[str, str]:
    """Misspelt words and what was meant: two letters exchanged, one left out, or one doubled."""
    known = _vocabulary()
    found: dict[str, str] = {}
    for word in sorted(known):  # of words under four letters, nobody misspells any
        for at in range(1, len(word) - 2):
            a, b = word[at], word[at + 1]
            for slip in (b + a, a, a + a + b):
                found.setdefault(word[:at] + slip + word[at + 2 :], word)
    return {slip: word for slip, word in found.items() if slip not in known}


def _vocabulary() -> set[str]:
    texts = [t for bodies in phrases.BODIES.values() for t in bodies]
    texts += [t for pair in phrases.AMBIGUOUS.values() for t in pair]
    texts += [template for _, template in phrases.MOODS.values()]
    texts += [*phrases.ASIDES, phrases.GREETINGS, phrases.CLOSINGS, *phrases.CONNECTORS]
    texts += [*phrases.PRODUCTS, *phrases.CITIES, *phrases.NAMES, *phrases.MONTHS]
    text = re.sub(r"\{\w+\}", " ", " ".join(texts))
    return {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
