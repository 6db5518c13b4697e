"""Are right answers left alone and wrong ones found in eight languages, and when do two agree?

    python -m benchmarks.languages

Rows of ``benchmarks/language_rows``, written for this benchmark: a source, two right answers in
other words or forms, and one with a number, a date, a name or place, or a negation changed; twenty
sources a language. Whoever wrote them knew the rules of T0, so they show what is read, not how
often real traffic needs it. T0 and T1 as shipped, each source is the context of a free text. A
share that does not differ from the false flags (Fisher's exact test, one-sided, 5%) shows no skill.
Formats: numbers and dates of the locale by Babel, number words by num2words, each held against
itself in every other form (supported) and against another number or day in that form (found).
"""

from __future__ import annotations

import csv
import datetime as dt
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from babel.dates import format_date
from babel.numbers import format_decimal
from num2words import num2words
from scipy.stats import fisher_exact

from benchmarks.record import Start, record, table
from loop_pipeline.answers.agreement import agrees
from loop_pipeline.answers.facts import unsupported_facts
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers

FOLDER = Path(__file__).parent / "language_rows"
LANGUAGES = {
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "zh": "Chinese",
    "ja": "Japanese",
    "ar": "Arabic",
    "hi": "Hindi",
}
# Of which T0 says something; the others are for T1.
FACTS = ("number", "date")
WORDED = ("en", "de", "es", "fr")  # whose number words are read beyond ten
TRIES = 100
NO_SKILL = "no skill shown"


def rows_of(language: str) -> list[dict[str, str]]:
    """The rows of a language: changed, source, answer, again, wrong."""
    with (FOLDER / f"{language}.tsv").open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def flagged(pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Flags of (source, answer) rows, each with a template of its own."""
    frame = pd.DataFrame(pairs, columns=["context", "output"])
    names = frame.index.astype(str)
    return flag_hallucinations(
        frame.assign(
            prompt_id=names,
            day="2026-09-01",
            messages=[[] for _ in pairs],
            contract=None,
            finish_reason="stop",
            template_hash=names,
        ),
        tiers=Tiers(),
    )


def flag_line(language: str) -> dict[str, object]:
    """What the tiers say of right and of wrong answers."""
    rows = rows_of(language)
    right = flagged([(r["source"], r[n]) for r in rows for n in ("answer", "again")])
    wrong = flagged([(r["source"], r["wrong"]) for r in rows])
    by_t0, by_t1 = (right["flag"] & (right["tier"] == t) for t in ("T0", "T1"))
    kinds = pd.Series([r["changed"] for r in rows])
    found = {
        kind: wrong["flag"][kinds == kind].astype(bool)
        for kind in ("number", "date", "entity", "negation")
    }
    facts = kinds.isin(FACTS)
    silent = [
        kind
        for kind in ("entity", "negation")
        if not _has_skill(found[kind], right["flag"].astype(bool))
    ]
    return {
        "language": LANGUAGES[language],
        "right": len(right),
        "flagged by T0": by_t0.mean(),
        "flagged by T1": by_t1.mean(),
        "wrong": len(wrong),
        "numbers and dates found by T0": (wrong["flag"] & (wrong["tier"] == "T0"))[facts].mean(),
        **{f"{kind} found": share.mean() for kind, share in found.items()},
        NO_SKILL: ", ".join(silent) or "-",
    }


def _has_skill(found: pd.Series, alarms: pd.Series) -> bool:
    counts = [[int(part.sum()), int((~part).sum())] for part in (found, alarms)]
    return bool(fisher_exact(counts, alternative="greater").pvalue < 0.05)


def agreement_line(language: str) -> dict[str, object]:
    """Whether two right answers agree, and a right and a wrong one do not."""
    rows = rows_of(language)
    same = pd.Series([agrees(r["answer"], r["again"], None) for r in rows])
    apart = pd.Series([not agrees(r["answer"], r["wrong"], None) for r in rows])
    facts = pd.Series([r["changed"] in FACTS for r in rows])
    return {
        "language": LANGUAGES[language],
        "pairs": 2 * len(rows),
        "same said in other words agrees": same.mean(),
        "another number or date is told apart": apart[facts].mean(),
        "another name or a negation is told apart": apart[~facts].mean(),
        NO_SKILL: "-" if _has_skill(apart, ~same) else "all",
    }


def numbers_of(language: str, value: float) -> dict[str, str]:
    """A number in the forms in which a locale writes it."""
    forms = {
        "grouped": format_decimal(value, locale=language),
        "plain": format_decimal(value, locale=language, group_separator=False),
    }
    if language in ("ar", "hi"):
        numbering = "arab" if language == "ar" else "deva"
        forms["own digits"] = format_decimal(value, locale=language, numbering_system=numbering)
    if language in WORDED and value == int(value) < 1_000_000:
        forms["words"] = num2words(int(value), lang=language)
    return forms


def dates_of(language: str, day: dt.date) -> dict[str, str]:
    """A date in the forms in which a locale writes it, and as ISO."""
    names = ("short", "medium", "long", "full")
    return {name: format_date(day, name, locale=language) for name in names} | {
        "ISO": day.isoformat()
    }


def format_line(language: str, rng: random.Random) -> dict[str, object]:
    """Every form against every other: the same is supported, another is found."""
    kept: dict[str, list[bool]] = {"numbers": [], "dates": []}
    found: dict[str, list[bool]] = {"numbers": [], "dates": []}
    for name, one, other in _made(language, rng):
        for told in one.values():
            for source in one.values():
                kept[name].append(
                    not unsupported_facts(f"It is {told} now.", f"We said {source} then.")
                )
            for source in other.values():
                found[name].append(
                    bool(unsupported_facts(f"It is {told} now.", f"We said {source} then."))
                )
    return {
        "language": LANGUAGES[language],
        **{f"{name}: supported in another form": _share(kept[name]) for name in kept},
        **{f"{name}: another one found": _share(found[name]) for name in found},
        "pairs of forms": sum(map(len, [*kept.values(), *found.values()])),
    }


def _made(
    language: str, rng: random.Random
) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    for _ in range(TRIES):
        value = rng.choice(
            [rng.randint(13, 99), rng.randint(100, 99_999), rng.randint(10**5, 10**7)]
        )
        digits = [*str(value)]
        place = rng.randrange(len(digits))
        digits[place] = str((int(digits[place]) + rng.randint(1, 8)) % 9 + 1)
        other = int("".join(digits))
        if other != value:
            yield "numbers", numbers_of(language, value), numbers_of(language, other)
        day = dt.date(2020, 1, 1) + dt.timedelta(rng.randrange(3650))
        moved = day + dt.timedelta(rng.choice([-30, -7, -1, 1, 2, 7, 31, 365]))
        yield "dates", dates_of(language, day), dates_of(language, moved)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def main() -> None:
    """Print the tables, and write them down."""
    start, rng = Start(), random.Random(0)
    parts = {
        "Flags, T0 and T1 as shipped": [flag_line(name) for name in LANGUAGES],
        "Agreement of two texts": [agreement_line(name) for name in LANGUAGES],
        "Forms of numbers and dates, T0": [format_line(name, rng) for name in LANGUAGES],
    }
    tables = []
    for title, lines in parts.items():
        frame = pd.DataFrame(lines)
        sys.stdout.write(f"{title}\n{frame.round(3).to_string(index=False)}\n\n")
        shares = {str(c): "share" for c in frame if frame[c].dtype == float}
        tables.append(table(title, frame, shares))
    record(__file__, __doc__, tables, start, packages=("babel", "num2words"))


if __name__ == "__main__":
    main()
