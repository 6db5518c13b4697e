"""Hides passwords and keys in what a person or a log gets to read.

What is read is only text; nothing here decides what is stored.
"""

from __future__ import annotations

import re

# Whatever stands before the last @ of an address may be a password, whatever characters it has.
_USER = re.compile(r"://\S*@")
_NAMES = r"[^=&;\s]*(?:password|passwd|pwd|token|key|secret|sig)[^=&;\s]*"
_QUERY = re.compile(rf"(?i)([?&;]{_NAMES}=)[^&;\s'\"]+")


def masked(text: str) -> str:
    """The text with ``***`` for every user and password in an address, and every key in a query.

    Args:
        text: an address, or a sentence with addresses in it.
    """
    return _QUERY.sub(r"\1***", _USER.sub("://***@", text))
