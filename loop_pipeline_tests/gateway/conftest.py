"""A scripted upstream, and a worker before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_pipeline_tests.gateway.live import Live, live
from loop_pipeline_tests.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.stop()


@pytest.fixture
def gateway(tmp_path: Path, upstream: Upstream) -> Iterator[Live]:
    with live(tmp_path / "home", upstream.url) as running:
        yield running
