"""Dagster and MLflow as processes: what ``loop ui`` and ``loop up`` run.

Not here: what their pages show, which comes from ``defs`` and ``store``.
"""

from __future__ import annotations

import os
import signal
import sys

from loop_pipeline.child_environment import child_environment
from loop_pipeline.dagster_home import dagster_home
from loop_pipeline.processes.ports import HOST, Ports, moved, url_of
from loop_pipeline.processes.service import Service
from loop_pipeline.settings import LoopSettings

DAGSTER_PORT = 3000
MLFLOW_PORT = 5000
MLFLOW_STOP_S = 15.0
# Dagster ends its own children, one after the other, and waits up to 60 s for each.
DAGSTER_STOP_S = 90.0
# They are the gateway's alone.
VENDOR_SECRETS = (
    "LOOP_FRONTIER_API_KEY",
    "OPENAI_API_KEY",
    "LOOP_ANTHROPIC_API_KEY",
    "ANTHROPIC_API_KEY",
)


def page_services(
    settings: LoopSettings,
    told: dict[str, str],
    ports: Ports,
    *,
    mlflow_port: int | None = MLFLOW_PORT,
    dagster_port: int = DAGSTER_PORT,
) -> list[Service]:
    """MLflow and Dagster, in the order in which they end.

    Args:
        settings: of the home.
        told: variables for both.
        ports: gives them theirs.
        mlflow_port: None: without MLflow.
        dagster_port: or the next that is free.
    """
    found = [] if mlflow_port is None else [_mlflow(settings, told, mlflow_port, ports)]
    return [*found, _dagster(settings, told, dagster_port, ports)]


def _mlflow(settings: LoopSettings, told: dict[str, str], wanted: int, ports: Ports) -> Service:
    about = "trainings, models, review desk"
    if settings.tracking_uri.startswith("http"):
        address = settings.tracking_uri
        return Service("mlflow", about, url=address, health=address)
    port = ports.take(wanted)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # By the environment: arguments can be read by everybody on the machine.
    environment = child_environment(
        **told,
        MLFLOW_BACKEND_STORE_URI=settings.tracking_uri,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        PYTHONWARNINGS="ignore",
    )
    return Service(
        "mlflow",
        about + moved(wanted, port),
        command,
        environment,
        url_of(HOST, port),
        f"{url_of(HOST, port)}/health",
        stop_signal=signal.SIGINT,
        stop_s=MLFLOW_STOP_S,
    )


def _dagster(settings: LoopSettings, told: dict[str, str], wanted: int, ports: Ports) -> Service:
    home = dagster_home(settings)
    port = ports.take(wanted)
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", str(home / "workspace.yaml")]
    command += ["--host", HOST, "--port", str(port), "--log-level", "warning"]
    # The pipeline itself: it needs every setting and secret of this process but the vendors' keys.
    known = {k: v for k, v in os.environ.items() if k not in VENDOR_SECRETS}
    environment = (
        known
        | told
        | {
            "DAGSTER_HOME": str(home),
            # The command is what is documented here; `dg dev` wants a project's source.
            "PYTHONWARNINGS": "ignore",
        }
    )
    on = {"true": "; schedules and sensors are on", "false": ""}[
        told.get("LOOP_SCHEDULES", "false")
    ]
    return Service(
        "dagster",
        f"jobs, schedules, runs{on}{moved(wanted, port)}",
        command,
        environment,
        url_of(HOST, port),
        f"{url_of(HOST, port)}/server_info",
        stop_signal=signal.SIGINT,
        stop_s=DAGSTER_STOP_S,
    )
