"""Numbers, ids, URLs and e-mail addresses of an answer, which have to stand in its request.

Not here: the wording of an answer (``labels/hallucination``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

URL = re.compile(r"https?://[^\s<>\"')\]]+|www\.[^\s<>\"')\]]+")
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# A run of letters and digits that holds at least one digit: 48213, A-48213, 3.5kg, 2026-03-01.
# It starts where a word starts, else a long blob would cost quadratic time.
TOKEN = re.compile(
    r"(?<![^\W_])(?<![^\W_][-./:_,])"
    r"(?:[^\W_]+[-./:_,])*[^\W_]*\d[^\W_]*(?:[-./:_,][^\W_]+)*"
)
PIECE = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
LIST_MARK = re.compile(r"^[^\S\n]*\d{1,2}[.)]\s", re.MULTILINE)
# fmt: off
NUMBER_WORDS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
    "twenty": "20", "thirty": "30", "fifty": "50", "hundred": "100",
}
# fmt: on


def unsupported_facts(output: str, request_text: str) -> list[str]:
    """Numbers, ids, URLs and e-mail addresses of an answer that its request does not hold."""
    return [output[start:end] for start, end in fact_spans(output, request_text)]


def fact_spans(output: str, request_text: str) -> list[tuple[int, int]]:
    """Where the unsupported facts of an answer stand: (start, end) in characters of it."""
    addresses = [(m.start(), m.start() + len(_trim(m[0]))) for m in URL.finditer(output)]
    addresses += [match.span() for match in EMAIL.finditer(output)]
    held = request_text.casefold() if addresses else ""
    missing = [(a, b) for a, b in addresses if not _held(output[a:b].casefold(), held)]
    rest = without_list_marks(EMAIL.sub(_blank, URL.sub(_blank, output)))
    tokens = [match.span() for match in TOKEN.finditer(rest)]
    if tokens:
        known, numbers = _pieces(request_text)
        missing += [
            (a, b) for a, b in tokens if not _supported(rest[a:b].casefold(), known, numbers)
        ]
    return missing


def joined(output: str, places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places in their order, those with only blanks between them as one."""
    found: list[tuple[int, int]] = []
    for start, end in places:
        if found and not output[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def spans_of(output: str, places: Iterable[tuple[int, int]], why: str) -> list[dict[str, Any]]:
    """Places as the column ``spans`` holds them: start, end, text, why."""
    return [{"start": a, "end": b, "text": output[a:b], "why": why} for a, b in sorted(places)]


def without_list_marks(text: str) -> str:
    """Blanks where "1." and the like number the points of a list; places stay as they are."""
    return LIST_MARK.sub(_blank, text)


def _trim(link: str) -> str:
    return link.rstrip(".,;:!?")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


@lru_cache(maxsize=2048)
def _pieces(text: str) -> tuple[frozenset[str], list[str]]:
    """All words and numbers of a text, and its numbers in order."""
    pieces = [_number(piece) for piece in PIECE.findall(text.casefold())]
    pieces += [NUMBER_WORDS[word] for word in pieces if word in NUMBER_WORDS]
    return frozenset(pieces), [piece for piece in pieces if piece[0].isdigit()]


def _held(fact: str, text: str) -> bool:
    """Whether the fact stands in the text as a whole, not as the start of a longer one."""
    return re.search(re.escape(fact) + r"(?![\w@/-]|\.\w)", text) is not None


def _supported(token: str, known: frozenset[str], numbers: list[str]) -> bool:
    """Letters before a number name it (A-48213), letters after it are units (5kg, 3pm)."""
    pieces = [_number(piece) for piece in PIECE.findall(token)]
    first = next(i for i, piece in enumerate(pieces) if piece[0].isdigit())
    asked = [piece for piece in pieces if piece[0].isdigit()]
    if not known.issuperset(pieces[:first]) or not known.issuperset(asked):
        return False
    # 2026-01-03 is not supported by 2026-03-01, but 10-15 is by "10 to 15".
    width = len(asked)
    return width == 1 or any(
        numbers[i : i + width] == asked for i in range(len(numbers) - width + 1)
    )


def _number(piece: str) -> str:
    """1,000 = 1000 and 25.00 = 25; leading zeros are kept, they tell ids apart."""
    if not piece[0].isdigit():
        return piece
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", piece):
        piece = piece.replace(",", "")
    piece = piece.replace(",", ".")
    return piece.rstrip("0").rstrip(".") if piece.count(".") == 1 else piece
