"""The page in a real browser: what it shows, what a click does, what hostile texts cannot do."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from loop_pipeline.gateway.admin.admin_server import VIEWER, admin_app
from loop_pipeline.gateway.admin.figures.live_bill import Rent
from loop_pipeline.gateway.admin.live_view import LiveView
from loop_pipeline.store.database import open_store
from loop_pipeline.whole_file import write_whole
from loop_pipeline_tests.gateway.admin.chromium import Browser, browser, missing
from loop_pipeline_tests.gateway.admin.live_store import EVIL, beside, line, policy, spool, store
from loop_pipeline_tests.shared import free_port

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
WIDTHS = [(1280, 900), (360, 800)]


class Site:
    """The page's server with what it reads, as a worker would forward it for the key "alice"."""

    def __init__(self, home: Path) -> None:
        self.home, self.viewer = home, "alice"
        (home / "gateway").mkdir(parents=True)
        self.store = f"sqlite:///{home / 'loop.db'}"
        view = LiveView(home, lambda: open_store(self.store), Rent(hourly_usd=0.01, servers=1))
        app, port = admin_app(view), free_port()

        async def forwarded(scope: Any, receive: Any, send: Any) -> None:
            viewer = [(VIEWER.encode(), self.viewer.encode())]
            scope["headers"] = [*scope.get("headers", []), *viewer]
            await app(scope, receive, send)

        config = uvicorn.Config(forwarded, port=port, log_level="warning", lifespan="off")
        self.url, self._server = f"http://127.0.0.1:{port}", uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def feedback(self) -> list[dict[str, Any]]:
        """What was written to the spool besides traces."""
        texts = [p.read_text("utf-8") for p in sorted((self.home / "spool").glob("*.jsonl"))]
        rows = [json.loads(row) for text in texts for row in text.splitlines()]
        return [row for row in rows if "messages" not in row]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "home")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def window(chromium: Browser, site: Site) -> Iterator[Browser]:
    """A window that leaves the page before its server ends, or it would complain."""
    chromium.resize(1280, 900)
    yield chromium
    chromium.open("about:blank")
    chromium.complaints()


def a_busy_hour() -> list[dict[str, Any]]:
    now = dt.datetime.now(dt.UTC)
    lines = []
    for i in range(240):
        lane = ("student", "student", "escalated", "frontier", "student")[i % 5]
        ts = now - dt.timedelta(seconds=14 * i)
        main = line(f"r{i:03d}", ts, lane, route={"shadow": i % 10 == 0})
        lines.append(main)
        if i % 10 == 0:
            lines.append(beside(main, "refund" if i == 0 else "delivery"))
    return lines


def fill(site: Site) -> None:
    write_whole(site.home / "gateway" / "policy.json", policy().to_text())
    engine = open_store(site.store)
    store(engine, a_busy_hour())
    engine.dispose()


def shown(window: Browser, css: str) -> str:
    return window.run("return document.querySelector(arguments[0]).innerText", css)


def opened(window: Browser) -> str:
    window.until("return document.querySelector('#request-body .facts') && true")
    return shown(window, "#request-body")


def test_a_stranger_is_told_what_to_do_first(site: Site, window: Browser) -> None:
    window.open(site.url)
    window.until("return !document.getElementById('empty').hidden")
    assert "Nothing yet: send a request" in shown(window, "#empty")
    assert f"curl {site.url}/v1/chat/completions" in shown(window, "#curl")
    now = dt.datetime.now(dt.UTC)
    held = spool(site.home / "spool", [line("first", now, "frontier", text="hello there")])
    window.until("return document.getElementById('empty').hidden")
    assert "hello there" in shown(window, "#newest")
    assert held.size
    assert not window.complaints()


@pytest.mark.parametrize(("width", "height"), WIDTHS)
def test_the_page_fits_its_window(site: Site, window: Browser, width: int, height: int) -> None:
    fill(site)
    window.resize(width, height)
    window.open(site.url)
    window.until("return document.querySelectorAll('#newest tbody tr').length === 50")
    window.until("return document.querySelectorAll('#groups tbody tr').length === 2")
    assert window.overflow() <= 0
    figures = shown(window, "#figures")
    for words in ("60.0%", "estimated", "95% interval", "orders", "Promised: at least 95.0%"):
        assert words in figures, words
    window.click("#newest tbody tr:nth-child(1) button")
    text = opened(window)
    for words in ("where is order r000?", "Task group: orders", "the least sure token", "0.970"):
        assert words in text, words
    assert "says something else" in text
    assert window.overflow() <= 0
    assert window.run("return document.getElementById('request').scrollWidth") <= width
    assert not window.complaints()


def test_good_bad_and_edit_are_feedback_of_the_viewer(site: Site, window: Browser) -> None:
    fill(site)
    window.resize(1280, 900)
    window.open(f"{site.url}/#r000")
    opened(window)
    window.click("#request-body .buttons button:nth-child(2)")
    window.until("return document.querySelector('#request-body [role=status]').textContent")
    assert "Noted as “bad” by alice" in opened(window)
    window.click("#request-body .buttons button:nth-child(3)")
    assert window.run("return document.querySelector('#edited + button').disabled")
    window.type("#edited", ", " + EVIL)
    window.click("#edited + button")
    window.until(
        "return document.querySelector('#request-body li').textContent && "
        "document.querySelector('#request-body [role=status]').textContent.includes('edited')"
    )
    first, second = site.feedback()
    assert (first["prompt_id"], first["kind"], first["actor"]) == ("r000", "thumb_down", "alice")
    assert (second["kind"], second["edited_output"]) == ("modified", f"delivery, {EVIL}")
    window.open(f"{site.url}/?again#r000")
    assert "bad by alice" in opened(window)


def test_an_opened_request_outlives_refreshes_and_its_edit_too(site: Site, window: Browser) -> None:
    fill(site)
    window.open(f"{site.url}/#r003")
    opened(window)
    window.click("#request-body .buttons button:nth-child(3)")
    window.type("#edited", " or not")
    held = spool(site.home / "spool", [line("new", dt.datetime.now(dt.UTC), "frontier")])
    window.until("return document.querySelector('#newest tbody tr').dataset.key === 'new'")
    assert held.size
    assert window.run("return document.getElementById('request').open")
    assert window.run("return document.getElementById('edited').value") == "delivery or not"
    window.click("#close")
    assert window.run("return location.hash") == ""


def test_rows_keep_their_place_in_the_document_so_that_nothing_flickers(
    site: Site, window: Browser
) -> None:
    fill(site)
    window.open(site.url)
    window.until("return document.querySelectorAll('#newest tbody tr').length === 50")
    window.run(
        "window.changes = 0;"
        "new MutationObserver(l => window.changes += l.length)"
        ".observe(document.querySelector('#newest'), {subtree: true, childList: true,"
        " characterData: true, attributes: true});"
        "window.drawn = document.getElementById('fresh').textContent;"
    )
    window.until("return document.getElementById('fresh').textContent !== window.drawn")
    assert window.run("return window.changes") == 0


def test_what_stands_in_a_trace_is_only_ever_text(site: Site, window: Browser) -> None:
    site.viewer = EVIL.replace('"', "'")
    now = dt.datetime.now(dt.UTC)
    span = {"start": 2, "end": 2 + len(EVIL), "text": EVIL, "why": EVIL}
    flag = {"flag": True, "grounded": "no", "score": 0.9, "tier": "T1", "reasons": [EVIL]}
    names = ("reason", "settled", "adapter", "group_id", "wire", "policy")
    route = dict.fromkeys(names, EVIL) | {"flag": flag | {"spans": [span]}}
    evil = line(f"x{EVIL}/?#", now, "student", text=EVIL, route=route)
    evil |= dict.fromkeys(("task", "app", "conversation_id", "model", "finish_reason"), EVIL)
    evil |= {"output": f"😀 {EVIL} end", "contract": None}
    evil["messages"].append({"role": EVIL, "content": [{"type": EVIL}, EVIL]})
    said = {"prompt_id": evil["prompt_id"], "kind": EVIL, "actor": EVIL, "ts": now.isoformat()}
    held = spool(site.home / "spool", [evil, beside(evil, EVIL), said])
    window.open(site.url)
    window.until("return document.querySelectorAll('#newest tbody tr').length === 1")
    window.click("#newest tbody button")
    assert EVIL in opened(window)
    assert window.run("return document.querySelector('mark').textContent") == EVIL
    assert held.size
    assert window.run("return document.title") == "Live traffic"
    assert (
        window.run("return document.querySelectorAll('main script, main img, dialog img').length")
        == 0
    )
    assert not window.complaints()


def test_everything_can_be_reached_and_named(site: Site, window: Browser) -> None:
    fill(site)
    window.open(f"{site.url}/#r000")
    opened(window)
    nameless = (
        "return [...document.querySelectorAll('button, textarea, dialog, svg, a')].filter(n =>"
        " !(n.textContent.trim() || n.labels?.length || n.getAttribute('aria-labelledby'))).length"
    )
    assert window.run(nameless) == 0
    clickable = (
        "return [...document.querySelectorAll('[onclick], tr[role], div[role=button]')].length"
    )
    assert window.run(clickable) == 0
    assert window.run("return document.getElementById('request').contains(document.activeElement)")
