"""``/`` and ``/page/*``: passed to the page's own process, for admins and for this machine.

Not here: the page (``admin.py``).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from loop_pipeline.gateway.access.access import Caller, Denied
from loop_pipeline.gateway.config import LOOPBACK
from loop_pipeline.gateway.frontier import header_rules
from loop_pipeline.gateway.http.asgi import (
    BodyTooLong,
    ClientGone,
    Receive,
    Scope,
    Send,
    ascii_value,
    read_body,
    send_whole,
)
from loop_pipeline.gateway.http.parts import Parts

SOCKET = "admin.sock"
TIMEOUT_S = 60.0
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")


class PageProxy:
    """ASGI endpoint. Who looks is told to the page in ``x-loop-actor``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward, or say why not, in words."""
        headers = dict(scope["headers"])
        try:
            caller = self._parts.access.caller(headers)
            caller.must("admin")
            if not caller.key_id:
                _check_origin(headers)
            _check_same_site(headers)
            body = await read_body(receive, headers.get(b"content-length"))
            await self._forward(scope, body, caller, send)
        except Denied as denied:
            asks = [(b"www-authenticate", b'Basic realm="loop", charset="UTF-8"')]
            found = [_PLAIN, *(asks if denied.status == 401 else [])]
            await send_whole(send, denied.status, found, f"{denied}\n".encode())
        except BodyTooLong:
            await send_whole(send, 413, [_PLAIN], b"too long\n")
        except ClientGone:
            return
        except (aiohttp.ClientError, OSError):
            said = b"the page is not running; the gateway is\n"
            await send_whole(send, 503, [_PLAIN], said)

    async def _forward(self, scope: Scope, body: bytes, caller: Caller, send: Send) -> None:
        query = scope["query_string"].decode("latin-1")
        raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        url = URL(f"http://page{raw}" + (f"?{query}" if query else ""), encoded=True)
        kept = header_rules.on(scope["headers"], keys=False, encodings=True)
        kept.append((b"x-loop-actor", ascii_value(caller.name)))
        sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in kept]
        async with self._parts.page.request(
            scope["method"], url, headers=sent, data=body or None, allow_redirects=False
        ) as answer:
            found = header_rules.back(answer.raw_headers, decompressed=False)
            await send_whole(send, answer.status, found, await answer.read())


def page_session(folder: Path) -> aiohttp.ClientSession:
    """Connections to the page's process; none is made before somebody looks.

    Args:
        folder: of the gateway's files, its socket among them.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(folder / SOCKET)),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
    )


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Without keys the page is this machine's only, also when another site names it as its own.

    Raises:
        Denied: the browser came here by another name than this machine's.
    """
    host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname
    if host not in LOOPBACK:
        raise Denied(403, "loop_host", "without keys this page is at http://127.0.0.1 only")


def _check_same_site(headers: dict[bytes, bytes]) -> None:
    """Another site's page must not act here with what the browser knows.

    Raises:
        Denied: the request comes from one.
    """
    origin = headers.get(b"origin")
    if origin and urlsplit(origin.decode("latin-1")).netloc.encode() != headers.get(b"host"):
        raise Denied(403, "loop_origin", "this came from a page of another site")
