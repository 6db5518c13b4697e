"""Environments of other people's clients, a scripted vendor and the real gateway before it."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.http_calls.local_server import free_port, running, wait_for
from loop_pipeline_tests.clients.routed import SECRET, put_in_force, student_server
from loop_pipeline_tests.upstream import Upstream

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PLACE = ROOT / ".venv-clients"
DATA = Path(os.environ.get("LOOP_BENCH_DATA", ROOT.parent / "shared" / "data"))
OPENAI = "3.57.0"
PYTHON_PACKAGES = (
    f"openai[aiohttp]=={OPENAI}",
    "anthropic==2.14.0",
    "azure-identity==1.27.0",
    "dirty-equals==0.11",
    "inline-snapshot==0.36.1",
    "langchain-openai==1.7.4",
    "langchain-tests==1.1.9",
    "nest-asyncio==1.6.0",
    "openai-agents==0.24.0",
    "pydantic-ai-slim[openai]==2.68.0",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-xdist",
    "pyyaml",
    "respx==0.23.1",
    "rich",
    "schemathesis==4.32.5",
    "trio",
)
NODE_PACKAGES = (
    "@ai-sdk/openai-compatible@2",
    "@anthropic-ai/sdk",
    "@stdy/cli",
    "ai@6",
    "openai@6.49.0",
)
START_S = 60


@dataclass(frozen=True)
class Clients:
    """Where the clients are installed."""

    python: Path
    node: Path
    openai_source: Path


def _run(command: list[str], what: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-300:]
        pytest.skip(f"{what} could not be had: {words}")


@pytest.fixture(scope="session")
def clients() -> Clients:
    """Install the clients beside the project's own environments, once for a list of them."""
    npm, uv = shutil.which("npm"), Path(sys.executable).with_name("uv")
    if npm is None:
        pytest.skip("npm is not installed: the JavaScript clients need Node 20")
    wanted = hashlib.sha256(repr((PYTHON_PACKAGES, NODE_PACKAGES)).encode()).hexdigest()
    python, node = PLACE / "bin" / "python", PLACE / "node"
    found = Clients(python, node, PLACE / f"openai-{OPENAI}")
    mark = PLACE / ".complete"
    if mark.exists() and mark.read_text() == wanted:
        return found
    shutil.rmtree(PLACE, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(PLACE)], "an environment for the clients")
    pip = [str(uv), "pip", "install", "--python", str(python)]
    pip = pip if uv.exists() else [str(python), "-m", "pip", "install"]
    _run([*pip, "-q", *PYTHON_PACKAGES], "the Python clients")
    node.mkdir()
    _run([npm, "install", "--silent", *NODE_PACKAGES], "the JavaScript clients", node)
    fetch = [str(python), "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "openai"]
    _run([*fetch, f"openai=={OPENAI}", "-d", str(PLACE)], "OpenAI's own tests")
    with tarfile.open(PLACE / f"openai-{OPENAI}.tar.gz") as archive:
        archive.extractall(PLACE, filter="data")
    mark.write_text(wanted)
    return found


@contextlib.contextmanager
def answering(command: list[str], url: str, log: Path, **variables: str) -> Iterator[None]:
    """A server, once something answers at the URL; ended afterwards."""
    with running(command, log, os.environ | variables) as process:
        wait_for(url, process, log)
        yield


@contextlib.contextmanager
def gateway_before(upstream: str, home: Path, **variables: str) -> Iterator[str]:
    """The real gateway before an upstream; yields its ``base_url``."""
    port = free_port()
    settings = {
        "LOOP_HOME": str(home),
        "LOOP_GATEWAY_PORT": str(port),
        "LOOP_FRONTIER_URLS": upstream,
        "LOOP_ANTHROPIC_URLS": upstream,
        "LOOP_FRONTIER_API_KEY": "none",
        "LOOP_ANTHROPIC_API_KEY": "none",
        "PYTHONPATH": str(ROOT),
    } | variables
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "loop_pipeline.cli.main", "gateway"]
    url = f"http://127.0.0.1:{port}"
    with answering(command, f"{url}/health/ready", home / "gateway.log", **settings):
        yield f"{url}/v1"


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``base_url`` of a vendor that answers by a script."""
    port = free_port()
    command = [sys.executable, "-m", "loop_pipeline_tests.clients.scripted_upstream", str(port)]
    log = tmp_path_factory.mktemp("scripted") / "log"
    url = f"http://127.0.0.1:{port}/v1"
    with answering(command, f"{url}/models", log, PYTHONPATH=str(ROOT)):
        yield url


@pytest.fixture(scope="session")
def through(scripted: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``base_url`` of the gateway before that vendor."""
    with gateway_before(scripted, tmp_path_factory.mktemp("home") / "loop") as url:
        yield url


@pytest.fixture(scope="session")
def mock_vendor(clients: Clients, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """OpenAI's document, answered by a mock as OpenAI's own tests have it; its root URL."""
    packed = DATA / "openai" / "openapi.json.gz"
    if not packed.is_file():
        pytest.skip(f"{packed} is absent: set LOOP_BENCH_DATA to the folder that holds it")
    folder = tmp_path_factory.mktemp("mock")
    document = folder / "openapi.json"
    document.write_bytes(gzip.decompress(packed.read_bytes()))
    port = free_port()
    command = [str(clients.node / "node_modules/.bin/steady"), "--host", "127.0.0.1"]
    command += ["-p", str(port)]
    command += [f"--validator-{part}-array-format=brackets" for part in ("query", "form")]
    command += [f"--validator-{part}-object-format=brackets" for part in ("query", "form")]
    url = f"http://127.0.0.1:{port}"
    with answering([*command, str(document)], f"{url}/_x-steady/health", folder / "log"):
        yield url


@dataclass(frozen=True)
class Routed:
    """The gateway with a policy in force."""

    url: str
    home: Path
    adapter: str
    student: Upstream


def _ready(url: str) -> dict[str, Any]:
    """What the gateway says of itself, ready or not yet."""
    try:
        with urllib.request.urlopen(f"{url.removesuffix('/v1')}/health/ready") as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


@contextlib.contextmanager
def routed_before(upstream: str, home: Path, frontier: str) -> Iterator[Routed]:
    """The real gateway before an upstream, and a student that may answer for ``frontier``."""
    home.mkdir(parents=True)
    adapter = put_in_force(home, frontier)
    student = Upstream(student_server)
    settings = {
        "LOOP_VLLM_URL": student.url.removesuffix("/v1"),
        "LOOP_INSTALLATION_SECRET": SECRET,
    }
    try:
        with gateway_before(upstream, home, **settings) as url:
            end = time.monotonic() + START_S
            while not (said := _ready(url))["policy"]:
                assert time.monotonic() < end, said
                time.sleep(0.1)
            yield Routed(url, home, adapter, student)
    finally:
        student.stop()


@pytest.fixture(scope="session")
def routed(scripted: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    """That gateway before the scripted vendor."""
    with routed_before(scripted, tmp_path_factory.mktemp("routed") / "loop", "scripted") as found:
        yield found
