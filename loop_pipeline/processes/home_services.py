"""Which processes a home takes, what each is told, and in which order they end.

Not here: keeping them running (``keep_running.py``).
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from loop_pipeline.child_environment import SERVER_SECRETS, child_environment
from loop_pipeline.processes.page_services import VENDOR_SECRETS, page_services
from loop_pipeline.processes.ports import HOST, Ports, moved, url_of
from loop_pipeline.processes.service import Service
from loop_pipeline.recipe import is_hub_id
from loop_pipeline.serving.supervisor_process import supervisor_command
from loop_pipeline.settings import LoopSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FRONTIER_PORT = 8190
# Its workers are given 45 s: requests that go on are waited for 30 s, then segments are sealed.
GATEWAY_STOP_S = 50.0
# What waits in the spool goes to the store first; if that is away, at the next start.
SHIPPER_STOP_S = 30.0
# Its supervisor gives vLLM 20 s.
VLLM_STOP_S = 30.0

STORE_SECRETS = ("LOOP_DATABASE_URL", "LOOP_INSTALLATION_SECRET")
# Addresses may hold a login of their own.
GATEWAY_SECRETS = (
    *STORE_SECRETS,
    *SERVER_SECRETS,
    "LOOP_EMBEDDER_API_KEY",
    "LOOP_FRONTIER_URLS",
    "LOOP_ANTHROPIC_URLS",
    "HTTPS_PROXY",
    "https_proxy",
)
# No key is needed where nobody bills; but an empty one would be refused before it is sent.
SIMULATED_KEY = "simulated"
# As in the simulated traffic; it has a price.
SIMULATED_MODEL = "claude-opus-5"


def loop_services(settings: LoopSettings, *, schedules: bool, simulated: bool) -> list[Service]:
    """Everything that `loop up` runs, in the order in which it ends.

    Args:
        settings: of the home.
        schedules: whether schedules and sensors are on unless somebody turned them off.
        simulated: with a frontier of our own that costs nothing, instead of the vendors'.
    """
    ports = Ports()
    port = ports.take(settings.gateway_port, settings.gateway_host)
    address = url_of(settings.gateway_host, port)
    told = {"LOOP_HOME": str(settings.home.absolute()), "LOOP_GATEWAY_PORT": str(port)}
    told["PYTHONUNBUFFERED"] = "1"  # a log that is written late explains nothing
    told["LOOP_SCHEDULES"] = "true" if schedules else "false"
    vllm = _vllm(settings, told, ports)
    keys, keyless = VENDOR_SECRETS, _keyless(settings)
    frontier: list[Service] = []
    if simulated:
        frontier = [_simulated_frontier(settings, told, ports)]
        keys, keyless = (), ""
    gateway = Service(
        "gateway",
        f"your application's base_url is {address}/v1{moved(settings.gateway_port, port)}{keyless}",
        [*_loop(), "gateway"],
        child_environment((*GATEWAY_SECRETS, *keys), **told),
        address,
        f"{address}/health/ready",
        stop_s=GATEWAY_STOP_S,
    )
    shipper = Service(
        "shipper",
        f"traces from {settings.home / 'spool'} into the store",
        [*_loop(), "ship"],
        child_environment(STORE_SECRETS, **told),
        stop_signal=signal.SIGINT,
        stop_s=SHIPPER_STOP_S,
        finish=[*_loop(), "ship", "--once"],
    )
    rest = page_services(settings, told, ports)
    return [gateway, shipper, vllm, *rest, *frontier]


def _keyless(settings: LoopSettings) -> str:
    """Words about what the first request would tell only after it was sent."""
    if settings.gateway_auth == "passthrough" or settings.frontier_api_key.get_secret_value():
        return ""
    return "; no LOOP_FRONTIER_API_KEY is set"


def _vllm(settings: LoopSettings, told: dict[str, str], ports: Ports) -> Service:
    """The student's server, unless it runs elsewhere. Tells the others where it is."""
    about = "the student's server"
    address = settings.vllm_urls[0] if settings.vllm_urls else ""
    parts = urlsplit(address)
    ours = settings.serving_driver == "url" and len(settings.vllm_urls) == 1
    if there := _served_already(settings):
        told["LOOP_VLLM_URL"] = there
        return Service("vllm", f"{about}, of `loop serve`", url=there, health=f"{there}/health")
    if not ours or parts.hostname not in LOOPBACK:
        return Service("vllm", f"{about}, run elsewhere", url=address, health=f"{address}/health")
    wanted = parts.port or 80
    port = ports.take(wanted, parts.hostname or HOST)
    address = told["LOOP_VLLM_URL"] = url_of(parts.hostname or HOST, port)
    recipe = settings.recipe()
    base = settings.base_of(recipe)
    command = supervisor_command(
        base,
        address,
        settings.serve_python,
        settings.vllm_log,
        max_lora_rank=recipe.lora_r,
        max_model_len=recipe.max_length + settings.max_answer_tokens,
    )

    def waits_for() -> str:
        if not settings.serve_python.exists():
            return f"an interpreter with vLLM at {settings.serve_python}: run `make serve-env`"
        if not is_hub_id(base) and not Path(base, "config.json").exists():
            return f"a base model at {base}: the job make_base makes one"
        return ""

    return Service(
        "vllm",
        f"{about}; it says more in {settings.vllm_log}{moved(wanted, port)}",
        command,
        child_environment(SERVER_SECRETS, **told),
        address,
        f"{address}/health",
        stop_s=VLLM_STOP_S,
        waits_for=waits_for,
    )


def _served_already(settings: LoopSettings) -> str:
    """Where `loop serve` of this home serves, if it does."""
    try:
        facts = json.loads(settings.vllm_log.with_name("server.json").read_text("utf-8"))
        address = str(facts["url"])
    except (OSError, ValueError, KeyError):
        return ""
    return address if Service("vllm", "", health=f"{address}/health").well() else ""


def _simulated_frontier(settings: LoopSettings, told: dict[str, str], ports: Ports) -> Service:
    port = ports.take(FRONTIER_PORT)
    address = url_of(HOST, port)
    told |= {
        "LOOP_FRONTIER_URLS": f"{address}/v1",
        "LOOP_ANTHROPIC_URLS": f"{address}/v1",
        "LOOP_FRONTIER_MODEL": settings.frontier_model or SIMULATED_MODEL,
        "LOOP_FRONTIER_API_KEY": SIMULATED_KEY,
        "LOOP_ANTHROPIC_API_KEY": SIMULATED_KEY,
    }
    module = "loop_pipeline.demo.simulated_frontier"
    return Service(
        "frontier",
        "a simulated frontier: its answers cost nothing",
        [sys.executable, "-m", module, "--port", str(port)],
        child_environment(**told),
        address,
        f"{address}/health",
        stop_s=5.0,
    )


def _loop() -> list[str]:
    return [sys.executable, "-m", "loop_pipeline.cli.main"]
