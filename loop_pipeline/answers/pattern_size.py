"""How large a pattern becomes when it is made ready: ``(a{1000}){1000}`` takes 300 MB.

Not here: how long it takes to match, which has a time limit where it is matched.
"""

from __future__ import annotations

import re

# Parts of a pattern: making so many ready takes some hundredths of a second.
MOST_PARTS = 50_000
COUNT = re.compile(r"\{(\d+)(?:,\d*)?\}")
# An escape, a set in brackets, or any other sign: one part.
PART = re.compile(r"\\[pPN]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)


def pattern_size(pattern: str) -> int:
    """Parts of a pattern once all that has to be there several times is written out."""
    sizes, last, place = [0], 0, 0
    while place < len(pattern):
        if (count := COUNT.match(pattern, place)) and last:
            # Only what must be there is written out; an upper limit costs nothing.
            sizes[-1] += last * (max(int(count[1][:9]), 1) - 1)
            last, place = last * max(int(count[1][:9]), 1), count.end()
            continue
        found = PART.match(pattern, place)
        sign = found[0] if found else pattern[place]
        place += len(sign)
        if sign == "(":
            sizes.append(0)
        elif sign == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        else:
            last = 1
            sizes[-1] += 1
        if sum(sizes) > MOST_PARTS:
            break
    return sum(sizes)
