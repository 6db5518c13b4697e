"""Who writes to the simulated support desk, when, and what about.

Not here: what is answered (``simulated_traffic.py``).
"""

from __future__ import annotations

import datetime as dt
import random
import re
from dataclasses import dataclass
from typing import Any

from loop_pipeline.demo import phrases

USERS = 400
TASKS: dict[str, tuple[float, str, dict[str, Any]]] = {  # share, system prompt, contract
    "classify": (
        0.50,
        "Classify the request.",
        {"kind": "label", "labels": list(phrases.LABELS)},
    ),
    "tag": (0.28, "Tag the request.", {"kind": "tags", "labels": list(phrases.TAGS)}),
    "summarise": (0.22, "Summarise the request in a sentence.", {"kind": "text", "max_words": 25}),
}
AMBIGUOUS = 0.03
TWO_CONCERNS = 0.03
MISSPELT = 0.08
LOWER_CASE = 0.25
CONVERSATION_LENGTHS = (0.93, 0.04, 0.02, 0.01)
DAY_WEIGHTS = (1.0, 1.0, 0.95, 0.95, 0.9, 0.5, 0.4)
HOUR_WEIGHTS = (1, 1, 1, 1, 1, 1, 2, 4, 8, 12, 13, 12, 9, 10, 12, 11, 10, 8, 7, 7, 6, 4, 0, 0)


@dataclass(frozen=True)
class Visit:
    """When a customer writes, for which task, and what about."""

    ts: dt.datetime
    conversation: str
    user: str
    task: str
    slots: dict[str, str]


@dataclass(frozen=True)
class Request:
    """What a customer writes, and the true answer."""

    task: str
    text: str
    truth: str
    hard: bool


def visits(rng: random.Random, traces: int, days: int, first_day: dt.date) -> list[Visit]:
    """Conversations of one to four requests of one user about one order, in order of time.

    Users have a heavy tail; days and hours follow a week in a shop.
    """
    midnight = dt.datetime.combine(first_day, dt.time(), dt.UTC)
    dates = [midnight + dt.timedelta(days=day) for day in range(days)]
    day_weights = [DAY_WEIGHTS[date.weekday()] for date in dates]
    user_weights = [1 / (rank + 10) for rank in range(USERS)]
    tasks, shares = list(TASKS), [share for share, _, _ in TASKS.values()]
    found: list[Visit] = []
    while len(found) < traces:
        user = rng.choices(range(USERS), user_weights)[0]
        ts = rng.choices(dates, day_weights)[0] + dt.timedelta(
            hours=rng.choices(range(24), HOUR_WEIGHTS)[0], seconds=rng.randrange(3600)
        )
        slots = _slots(rng, user)
        conversation = f"c{len(found):06d}"
        for _ in range(rng.choices((1, 2, 3, 4), CONVERSATION_LENGTHS)[0]):
            task = rng.choices(tasks, shares)[0]
            found.append(Visit(ts, conversation, f"customer-{user:03d}", task, slots))
            ts += dt.timedelta(seconds=rng.randrange(90, 2400))
    return sorted(found[:traces], key=lambda visit: visit.ts)


def some_date(rng: random.Random) -> str:
    """A day in summer, as customers write it."""
    return f"{rng.randrange(1, 31)} {rng.choice(phrases.MONTHS)}"


def write_request(rng: random.Random, visit: Visit) -> Request:
    """Put a visit into words. The truth follows from what is said, not from how."""
    label, body, hard = _concern(rng, visit.task)
    mention = rng.choices(("order", "product", "both"), (35, 40, 25))[0]
    # Nobody asks how heavy an order is.
    mention = "product" if label == "product_question" else mention
    moods = [mood for mood, (chance, _) in phrases.MOODS.items() if rng.random() < chance]
    template = _compose(rng, body, moods)
    # Slots stay as they are: what a summary has to copy is in the request, letter by letter.
    lower = rng.random() < LOWER_CASE
    template = template.lower() if lower else template
    misspelt = rng.random() < MISSPELT
    if misspelt:
        template = _misspell(rng, template)
    thing = _expand(rng, phrases.THINGS[mention]).format(**visit.slots)
    text = template.format(**visit.slots, thing=thing)
    if not lower:
        text = re.sub(r"(?:^|[.?] )[a-z]", lambda start: start[0].upper(), text)
    return Request(visit.task, text, _truth(visit, label, moods, mention), hard or misspelt)


def _slots(rng: random.Random, user: int) -> dict[str, str]:
    product, other = rng.sample(phrases.PRODUCTS, 2)
    return {
        "order": str(rng.randrange(10000, 100000)),
        "product": product,
        "other": other,
        "city": rng.choice(phrases.CITIES),
        "date": some_date(rng),
        "amount": str(rng.randrange(9, 400)),
        "name": phrases.NAMES[user % len(phrases.NAMES)],
    }


def _concern(rng: random.Random, task: str) -> tuple[str, str, bool]:
    """The true label of a request, the words of its concerns, and whether it is not just one."""
    if task != "summarise" and rng.random() < AMBIGUOUS:
        pair = rng.choice(list(phrases.AMBIGUOUS))
        return rng.choice(pair), _expand(rng, rng.choice(phrases.AMBIGUOUS[pair])), True
    label = rng.choices(phrases.LABELS, phrases.WEIGHTS)[0]
    body = _expand(rng, rng.choice(phrases.BODIES[label]))
    if task != "classify" or rng.random() >= TWO_CONCERNS:
        return label, body, False
    second = rng.choice([other for other in phrases.LABELS if other != label])
    also = _expand(rng, rng.choice(phrases.BODIES[second])).replace("{thing}", "it")
    first = min(label, second, key=phrases.LABELS.index)
    return first, body + rng.choice(phrases.CONNECTORS) + also, True


def _truth(visit: Visit, label: str, moods: list[str], mention: str) -> str:
    if visit.task == "classify":
        return label
    if visit.task == "tag":
        return ", ".join(sorted({*phrases.TAGS_OF[label], *moods})) or "none"
    about = phrases.OBJECTS[mention].format(**visit.slots)
    start = "Urgent: customer" if "urgent" in moods else "Customer"
    return f"{start} {phrases.SUMMARIES[label].format(**visit.slots, object=about)}."


def _compose(rng: random.Random, body: str, moods: list[str]) -> str:
    asks = re.match(r"(can|could|may|is|where|when|how|does|do|has|what|which|will)\b", body)
    sentences = [body + ("?" if asks else ".")]
    sentences += [_expand(rng, phrases.MOODS[mood][1]) + "." for mood in moods]
    asides = list(phrases.ASIDES)
    rng.shuffle(asides)
    room = max(0, 3 - len(sentences))
    wanted = len(sentences) + min(room, rng.choices((0, 1, 2), (50, 38, 12))[0])
    while len(sentences) < wanted or len(" ".join(sentences).split()) < 8:
        sentences.insert(rng.randrange(len(sentences) + 1), _expand(rng, asides.pop()) + ".")
    if rng.random() < 0.5:
        sentences[0] = f"{_expand(rng, phrases.GREETINGS)}, {sentences[0]}"
    if rng.random() < 0.4:
        sentences.append(_expand(rng, phrases.CLOSINGS) + ".")
    return " ".join(sentences)


def _expand(rng: random.Random, template: str) -> str:
    return re.sub(r"\[([^]]*)\]", lambda found: rng.choice(found[1].split("|")), template)


def _misspell(rng: random.Random, template: str) -> str:
    """One or two slips of the finger, in words only."""
    words = list(re.finditer(r"(?<!\{)\b[a-z]{4,}\b(?!\})", template))
    for word in sorted(rng.sample(words, min(len(words), rng.choice((1, 2)))), key=_from_the_end):
        at = word.start() + rng.randrange(1, len(word[0]) - 2)
        a, b = template[at], template[at + 1]
        slip = rng.choice((b + a, a, a + a + b))
        template = template[:at] + slip + template[at + 2 :]
    return template


def _from_the_end(word: re.Match[str]) -> int:
    return -word.start()
