"""A headless Chromium, driven through chromedriver's own protocol (W3C WebDriver)."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from loop_pipeline_tests.shared import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


def missing() -> str | None:
    """What is not installed here; None if a browser can be driven."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


class Browser:
    """One window."""

    def __init__(self, url: str, session: str) -> None:
        self._at = f"{url}/session/{session}"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        reply = requests.request(
            method, f"{self._at}{path}", json=body if method == "POST" else None, timeout=30
        )
        value = reply.json()["value"]
        assert reply.ok, value
        return value

    def open(self, url: str) -> None:
        self.ask("POST", "/url", url=url)

    def run(self, script: str, *args: Any) -> Any:
        """Run JavaScript; its ``return`` comes back."""
        return self.ask("POST", "/execute/sync", script=script, args=list(args))

    def until(self, script: str, seconds: float = 15) -> Any:
        """Run JavaScript until it returns something true."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return found

    def click(self, css: str) -> None:
        """Click as a person does: what lies under something else cannot be clicked."""
        element = self.ask("POST", "/element", using="css selector", value=css)[ELEMENT]
        self.ask("POST", f"/element/{element}/click")

    def type(self, css: str, text: str) -> None:
        element = self.ask("POST", "/element", using="css selector", value=css)[ELEMENT]
        self.ask("POST", f"/element/{element}/value", text=text)

    def resize(self, width: int, height: int) -> None:
        """The size of the page itself; a headless window is never narrower than 500 otherwise."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)

    def dark(self, dark: bool = True) -> None:
        wanted = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[wanted])

    def devtools(self, command: str, **params: Any) -> Any:
        return self.ask("POST", "/goog/cdp/execute", cmd=command, params=params)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the browser's console has to say, such as what the policy of content refused."""
        found = self.ask("POST", "/se/log", type="browser")
        return [f"{entry['level']}: {entry['message']}" for entry in found]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        script = "return document.documentElement.scrollWidth - window.innerWidth"
        return int(self.run(script))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    port = free_port()
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url)
        options = {
            "args": [*FLAGS, f"--user-data-dir={profile}"],
            "binary": shutil.which("chromium"),
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        body = {"capabilities": {"alwaysMatch": wanted}}
        reply = requests.post(f"{url}/session", json=body, timeout=60).json()["value"]
        assert "sessionId" in reply, reply
        opened = Browser(url, reply["sessionId"])
        try:
            yield opened
        finally:
            opened.ask("DELETE", "")
    finally:
        driver.terminate()
        try:
            driver.wait(20)
        except subprocess.TimeoutExpired:  # on a busy machine
            driver.kill()
            driver.wait()


def _wait(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if requests.get(f"{url}/status", timeout=5).json()["value"]["ready"]:
                return
        except requests.ConnectionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)
