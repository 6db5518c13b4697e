"""URLs and e-mail addresses, each in the form in which two that lead to one page are equal.

Not here: whether an address stands in a source (``answers/facts.py``).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

# An address ends at a blank, a quotation mark, a closing bracket or a sign of Chinese text.
URL = re.compile(
    r"(?:https?://|www\.)[^\s<>\"'`)\]}|\\，。、；：！？（）「」『』【】《》“”’]+", re.IGNORECASE
)
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# An address without its scheme, as sources name it.
_BARE = re.compile(
    r"(?<![\w@./-])(?:https?://)?(?:[\w-]+\.)+[a-z]{2,}(?::\d+)?(?:[/?#][^\s<>\"'`)\]}|\\，。、；：！？（）「」『』【】《》“”’]*)?",
    re.IGNORECASE,
)
_TRAILING = ".,;:!?*_~»"


def trimmed(address: str) -> str:
    """The address without the signs of the sentence around it."""
    return address.rstrip(_TRAILING)


def page(address: str) -> str:
    """What tells one page from another: host, path and query.

    Scheme, ``www.``, case, percent signs, a slash at the end and the place in the page (after #) do
    not.
    """
    place = trimmed(address).partition("#")[0].replace("&amp;", "&")
    place = unquote(place).casefold()
    place = place.removeprefix("https://").removeprefix("http://").removeprefix("www.")
    path, mark, query = place.partition("?")
    return path.rstrip("/") + mark + query


def pages(text: str) -> frozenset[str]:
    """All pages that a text names, also without a scheme; Chinese may follow without a blank."""
    found = {page(match[0]) for pattern in (URL, _BARE) for match in pattern.finditer(text)}
    return frozenset(found | {_ascii_part(address) for address in found})


def mails(text: str) -> frozenset[str]:
    """All e-mail addresses of a text."""
    return frozenset(match[0].casefold() for match in EMAIL.finditer(text))


def _ascii_part(address: str) -> str:
    return re.split(r"[^\x00-\x7f]", address, maxsplit=1)[0].rstrip("/")
