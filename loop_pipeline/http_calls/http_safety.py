"""Where private texts and keys may go: to the server that was configured, and nowhere else.

Not here: asking a busy server again (``http_retries.py``).
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import requests

from loop_pipeline.masking import masked

DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Redirected(requests.RequestException):
    """A server sends on to another place. It is not followed: the text says what to set."""


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: whoever gets what is sent there."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", url, None
    return parts.scheme, parts.hostname or "", port


def refuse_redirect(answer: requests.Response, setting: str) -> None:
    """Make sure that a server answered itself; ask with ``allow_redirects=False``.

    Args:
        answer: of the server.
        setting: that names the server.

    Raises:
        Redirected: it sends on to another place.
    """
    if not 300 <= answer.status_code < 400:
        return
    target = urljoin(answer.url, answer.headers.get("location", ""))
    raise Redirected(
        f"{masked(answer.url)} answers {answer.status_code} and sends on to {masked(target)}; that"
        f" is not followed, because what is sent is private: if it is right, name it in {setting}"
    )


def keeps_secret(url: str) -> bool:
    """Whether a token sent there can be read by nobody on the way: https, or this machine."""
    scheme, host, _ = origin_of(url)
    return scheme == "https" or (scheme == "http" and host in LOOPBACK)
