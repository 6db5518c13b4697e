"""Kinds of tokens that are part of others, and providers that count them apart.

Not here: what each kind costs (``costs/token_price.py``).
"""

from __future__ import annotations

from typing import Any

# Of which count each is a part.
PARTS = {
    "tokens_cached": "tokens_in",
    "tokens_cache_write": "tokens_in",
    "tokens_cache_write_1h": "tokens_cache_write",
    "tokens_audio_in": "tokens_in",
    "tokens_audio_out": "tokens_out",
    "tokens_reasoning": "tokens_out",
}
# Kinds that providers count beside the others. Where they are more than the whole, they were.
APART = (
    ("tokens_in", ("tokens_cached", "tokens_cache_write")),
    ("tokens_out", ("tokens_reasoning",)),
)


def parts_fit(trace: dict[str, Any]) -> bool:
    """Whether no kind has more tokens than there are; the counts are integers."""
    if trace.keys().isdisjoint(PARTS):
        return True
    sent = trace.get("tokens_in", 0)
    from_cache = trace.get("tokens_cached", 0) + trace.get("tokens_cache_write", 0)
    whole = all(trace.get(part, 0) <= trace.get(of, 0) for part, of in PARTS.items())
    return whole and from_cache <= sent


def add_parts(trace: dict[str, Any]) -> list[str]:
    """Add to a whole what was counted apart from it, and say so."""
    notes = []
    hour, written = (trace.get(f"tokens_cache_write{end}", 0) for end in ("_1h", ""))
    if _counts(hour, written) and hour > written:  # some say only how many are kept for an hour
        trace["tokens_cache_write"] = hour
    for whole, parts in APART:
        given, apart = trace.get(whole, 0), [trace.get(part, 0) for part in parts]
        if _counts(given, *apart) and sum(apart) > given:
            trace[whole] = given + sum(apart)
            names = " and ".join(p for p, count in zip(parts, apart, strict=True) if count)
            notes.append(f"{names} counted apart from {whole}: both were added")
    return notes


def _counts(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
