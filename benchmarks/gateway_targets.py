"""What the gateway is measured against, each started on loopback: itself, nothing, and rivals.

Measures nothing. A rival that is not installed is left out and named with what it would take.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.decision import fitted
from loop_pipeline.http_calls.local_server import free_port, running, wait_for
from loop_pipeline.installation_secret import installation_secret
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.store.database import open_store
from loop_pipeline.store.policies import activate_policy

# An environment with `litellm[proxy]` and `tensorzero`, and a folder where npm installed Portkey.
RIVALS_PYTHON = "LOOP_BENCH_RIVALS"
PORTKEY_FOLDER = "LOOP_BENCH_PORTKEY"
START_S = 90
ADAPTER = "student-c1"

LOOPBACK_ONLY = """
const net = require('net'); const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...a) {
  const told = a.find(x => typeof x === 'function');
  if (typeof a[0] === 'number') return listen.call(this, {port: a[0], host: '127.0.0.1'}, told);
  if (a[0] && typeof a[0] === 'object') a[0].host = '127.0.0.1';
  return listen.apply(this, a);
};
"""
TENSORZERO = """
import sys, time, tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None,
    async_setup=False)
open(sys.argv[2], "w").write(gateway.base_url)
time.sleep(1e6)
"""


@dataclass
class Target:
    """Somewhere requests can be sent."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    kind: str = "control"
    model: str = "auto"
    headers: dict[str, str] = field(default_factory=dict)
    home: Path | None = None

    @property
    def chat(self) -> str:
        """Where chat completions go."""
        return f"{self.url}/chat/completions"

    def pids(self) -> list[int]:
        """Its process and all that it started."""
        found, new = [], [self.process.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            with contextlib.suppress(FileNotFoundError):
                new += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory of all its processes."""
        pages = 0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def upstream(folder: Path, **variables: str) -> Iterator[Target]:
    """The canned upstream itself."""
    port = free_port()
    log = folder / f"upstream-{port}.log"
    command = [sys.executable, "-m", "benchmarks.gateway_upstream"]
    with running(command, log, os.environ | {"PORT": str(port)} | variables) as process:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Target("direct", f"http://127.0.0.1:{port}/v1", process)


@contextlib.contextmanager
def ours(
    folder: Path,
    frontier: str,
    *,
    chars: int | None = None,
    home: Path | None = None,
    **variables: str,
) -> Iterator[Target]:
    """`loop gateway` with capture on, in a home of its own.

    Args:
        folder: for homes and logs.
        frontier: URL of the upstream, which is the student's server too.
        chars: a policy for prompts of this length is in force; None: there is none.
        home: where an earlier one ran; None: a new one.
        variables: more settings.
    """
    home = home or Path(tempfile.mkdtemp(prefix="home-", dir=folder))
    port = free_port()
    if chars is not None:
        put_policy(home, chars)
    log = home / "gateway.log"
    settings = {
        "LOOP_HOME": str(home),
        "LOOP_GATEWAY_PORT": str(port),
        "LOOP_FRONTIER_URLS": frontier,
        "LOOP_FRONTIER_API_KEY": "none",
        "LOOP_FRONTIER_MODEL": "" if chars is not None else "stub",
        "LOOP_VLLM_URL": frontier.removesuffix("/v1"),
    } | variables
    command = [sys.executable, "-m", "loop_pipeline.cli.main", "gateway"]
    name = "gateway" if chars is None else f"gateway, routing, {chars} characters"
    with running(command, log, os.environ | settings) as process:
        wait_for(f"http://127.0.0.1:{port}/health/ready", process, log)
        yield Target(name, f"http://127.0.0.1:{port}/v1", process, kind="ours", home=home)


def put_policy(home: Path, chars: int) -> None:
    """Put a policy for prompts of this length in force in the store of a home."""
    bundle, embedder = fitted(chars)
    policies = home / "artifacts" / "policies"
    policies.mkdir(parents=True)
    embedder.save(policies / bundle.embedder_path)
    engine = open_store(f"sqlite:///{home / 'loop.db'}")
    with engine.begin() as connection:
        document = signed(bundle, installation_secret(home))
        activate_policy(connection, sha256=bundle.sha256, bundle=document, checkpoint_id=None)
    engine.dispose()


@contextlib.contextmanager
def tensorzero(folder: Path, frontier: str) -> Iterator[Target]:
    """TensorZero's gateway, without a database."""
    python = _rivals_python()
    config, told = folder / "tensorzero.toml", folder / "tensorzero.url"
    config.write_text(
        "[gateway]\nobservability.enabled = false\ndisable_pseudonymous_usage_analytics = true\n"
        '[models.small]\nrouting = ["stub"]\n[models.small.providers.stub]\ntype = "openai"\n'
        f'model_name = "stub"\napi_base = "{frontier}/"\napi_key_location = "none"\n'
    )
    log = folder / "tensorzero.log"
    with running([python, "-c", TENSORZERO, str(config), str(told)], log, os.environ) as process:
        end = time.monotonic() + START_S
        while not told.exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        if not told.exists():
            raise RuntimeError(f"TensorZero did not start: {log.read_text()[-500:]}")
        model = "tensorzero::model_name::small"
        url = told.read_text().rstrip("/")
        yield Target("TensorZero", url, process, model=model)


@contextlib.contextmanager
def litellm(folder: Path, frontier: str) -> Iterator[Target]:
    """LiteLLM's proxy, one worker."""
    python = _rivals_python()
    config, port, log = folder / "litellm.yaml", free_port(), folder / "litellm.log"
    config.write_text(
        "model_list:\n  - model_name: auto\n    litellm_params: "
        f'{{model: openai/stub, api_base: "{frontier}", api_key: none}}\n'
        "litellm_settings: {num_retries: 0, request_timeout: 60}\n"
    )
    key = f"sk-{secrets.token_hex(24)}"
    quiet = {
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DISABLE_ADMIN_UI": "True",
        "NO_DOCS": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
    }
    command = [str(Path(python).with_name("litellm")), "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with running(command, log, os.environ | quiet) as process:
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, log, START_S)
        headers = {"Authorization": f"Bearer {key}"}
        yield Target("LiteLLM", f"http://127.0.0.1:{port}/v1", process, headers=headers)


@contextlib.contextmanager
def portkey(folder: Path, frontier: str) -> Iterator[Target]:
    """Portkey's gateway, which listens on loopback only because it is made to."""
    place, node = os.environ.get(PORTKEY_FOLDER), shutil.which("node")
    if not place or not node:
        raise FileNotFoundError(f"Portkey: {PORTKEY_FOLDER} is not set, or there is no node")
    port, log, preload = free_port(), folder / "portkey.log", folder / "loopback.js"
    preload.write_text(LOOPBACK_ONLY)
    start = Path(place) / "node_modules/@portkey-ai/gateway/build/start-server.js"
    command = [node, "-r", str(preload), str(start), "--headless", f"--port={port}"]
    with running(command, log, os.environ, cwd=folder) as process:
        wait_for(f"http://127.0.0.1:{port}/", process, log)
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": frontier}
        headers |= {"Authorization": "Bearer none"}
        yield Target("Portkey", f"http://127.0.0.1:{port}/v1", process, headers=headers)


def _rivals_python() -> str:
    python = os.environ.get(RIVALS_PYTHON)
    if not python:
        raise FileNotFoundError(f"LiteLLM and TensorZero: {RIVALS_PYTHON} is not set")
    return python


def median(values: list[float]) -> float:
    """The middle one."""
    return float(np.median(values))
