"""Which headers go on to the frontier or to our own servers, and which come back.

Not here: what ours mean (``call.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from loop_pipeline.gateway.http.asgi import Headers

# Of one connection, or of one hop; the client's keys; what tells a vendor where we are.
NOT_ON = frozenset(
    b"host content-length transfer-encoding connection keep-alive te trailer upgrade expect "
    b"proxy-authorization proxy-connection accept-encoding authorization x-api-key api-key cookie "
    b"traceparent tracestate baggage forwarded via x-real-ip origin referer".split()
)
NOT_BACK = frozenset(
    b"content-length transfer-encoding connection keep-alive trailer upgrade proxy-authenticate "
    b"server date set-cookie alt-svc strict-transport-security".split()
)
KEYS = frozenset((b"authorization", b"x-api-key", b"api-key"))
OURS = (b"x-loop-", b"x-forwarded-")
_COMMON = frozenset((b"", b"keep-alive", b"close"))
# W3C: ids of zeros only, and the version ff, are none.
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})"
)


def on(headers: Iterable[tuple[bytes, bytes]], *, keys: bool, encodings: bool) -> Headers:
    """The client's headers for the frontier.

    Args:
        headers: with names in small letters, as ASGI gives them.
        keys: whether the client's own key goes along.
        encodings: whether the answer may come compressed: it is not read.
    """
    dropped = NOT_ON
    kept: Headers = []
    for name, value in headers:
        if name == b"connection" and value.lower() not in _COMMON:
            dropped = dropped | {part.strip().lower() for part in value.split(b",")}
    for name, value in headers:
        wanted = name not in dropped and not name.startswith(OURS)
        if wanted or (keys and name in KEYS) or (encodings and name == b"accept-encoding"):
            kept.append((name, value))
    if not encodings:
        # What is captured has to be read, so it does not come compressed.
        kept.append((b"accept-encoding", b"identity"))
    return kept


def to_ours(headers: Mapping[bytes, bytes], new_span: Callable[[], str]) -> dict[str, str]:
    """The client's distributed trace for our own servers, with our span as the parent of theirs.

    Args:
        headers: of the request.
        new_span: gives the id of our span.

    Returns:
        The headers; none if the client names no trace, or not as W3C does.
    """
    found = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
    if found is None:
        return {}
    sent = {"traceparent": f"00-{found[1].decode()}-{new_span()}-{found[2].decode()}"}
    if state := headers.get(b"tracestate"):
        sent["tracestate"] = state.decode("latin-1")
    return sent


def back(raw: Iterable[tuple[bytes, bytes]], *, decompressed: bool) -> Headers:
    """The frontier's headers for the client."""
    found: Headers = []
    for given, value in raw:
        name = given.lower()
        if name in NOT_BACK or name.startswith(b"x-loop-"):
            continue
        if decompressed and name == b"content-encoding":
            continue
        found.append((name, value))
    return found
