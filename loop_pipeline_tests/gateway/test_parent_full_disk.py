"""A disk that is full for real: the spool of a running gateway is a small file system."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from loop_pipeline_tests.gateway.live import ASKED, wait_for
from loop_pipeline_tests.gateway.test_parent import Running, home, running
from loop_pipeline_tests.upstream import Upstream

__all__ = ["home"]
pytestmark = pytest.mark.slow
# More than a page, so that no trace fits beside what is written already.
LONG = ASKED | {"messages": [{"role": "user", "content": "where is my order? " * 2000}]}
ASKED_WHILE_FULL = 10


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: that takes root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte. Returns the file to delete."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return path


def lost(gateway: Running) -> int:
    metrics = requests.get(f"{gateway.url}/metrics", timeout=5).text
    found = re.search(r"^loop_capture_lost_total (\d+)", metrics, re.MULTILINE)
    assert found is not None
    return int(found[1])


def kept(spool: Path) -> list[str]:
    """The prompt ids in all segments; every line has to be whole."""
    texts = [path.read_text() for path in sorted(spool.glob("*-*"))]
    assert all(text.endswith("\n") for text in texts)
    return [json.loads(line)["prompt_id"] for text in texts for line in text.splitlines()]


@pytest.mark.parametrize("capture", ["on", "required"])
def test_a_full_disk_costs_traces_or_answers_as_was_asked_and_space_mends_it(
    home: Path, upstream: Upstream, capture: str
) -> None:
    with small_disk(home / "spool") as spool:
        with running(LOOP_CAPTURE=capture) as gateway:
            first = gateway.post(json=LONG).headers["x-loop-prompt-id"]
            filler = fill(spool)
            said = [gateway.post(json=LONG) for _ in range(ASKED_WHILE_FULL)]
            if capture == "on":
                assert {answer.status_code for answer in said} == {200}
                assert lost(gateway) == ASKED_WHILE_FULL
            else:
                assert {answer.status_code for answer in said} == {503}
                assert {a.json()["error"]["code"] for a in said} == {"loop_capture_unavailable"}
            assert gateway.ready() == 503
            filler.unlink()
            wait_for(lambda: gateway.ready() == 200)
            last = gateway.post(json=LONG)
            assert last.status_code == 200
            logged = gateway.stop()
        assert kept(spool) == [first, last.headers["x-loop-prompt-id"]]
    assert "traces cannot be written to" in logged
    assert "traces can be written again" in logged
