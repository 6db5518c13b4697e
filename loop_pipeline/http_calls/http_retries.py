"""A session that asks a busy server again; what is asked belongs to whoever asks."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

# Three attempts in all.
RETRIES = 2
# Busy, rate limited or restarting; anything else will not mend itself.
TRY_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)


def retrying_session(connections: int = 10) -> requests.Session:
    """A session for requests that may be repeated without harm, POST included.

    Args:
        connections: that are kept open to one host.
    """
    retries = Retry(
        total=RETRIES,
        backoff_factor=0.3,
        status_forcelist=TRY_AGAIN,
        allowed_methods=None,
        respect_retry_after_header=False,  # a server must not decide how long this waits
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries, pool_maxsize=connections))
    return session
