"""Whether the database refuses rows for what they hold, or cannot take any just now.

Not here: what is done with them (``traces/ingest.py``).
"""

from __future__ import annotations

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

# PostgreSQL: serialization failure, deadlock. Two that wait for each other: one of them ends.
TRY_AGAIN = ("40001", "40P01")


def is_the_rows_fault(error: Exception) -> bool:
    """Whether other rows could be stored: the data is wrong, not the database away or full."""
    if not isinstance(error, DBAPIError):
        return True  # a value that the driver cannot pass on
    if isinstance(error, DataError | IntegrityError):
        return True
    # PostgreSQL: data, constraints, limits of the program (a key too long for its index).
    return _code(error)[:2] in ("22", "23", "54")


def was_in_the_way(error: Exception) -> bool:
    """Whether the same rows can be stored now: another transaction was in the way."""
    return isinstance(error, DBAPIError) and _code(error) in TRY_AGAIN


def said_of(error: Exception) -> str:
    """What the database says, in one line."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.partition("\n")[0]


def _code(error: DBAPIError) -> str:
    return getattr(error.orig, "pgcode", None) or ""
