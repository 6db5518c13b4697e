"""``loop up``: everything that a live loop takes, in one terminal; ``loop ui``: its pages alone.

What runs and how it is kept running is in `processes`. The pages are Dagster's and MLflow's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from loop_pipeline.processes.first_request import first_request
from loop_pipeline.processes.home_services import loop_services
from loop_pipeline.processes.keep_running import keep_running
from loop_pipeline.processes.page_services import page_services
from loop_pipeline.processes.ports import Ports
from loop_pipeline.processes.service import Service
from loop_pipeline.settings import load_settings

DEMO_HOME = ".loop/demo"


def up(
    manual: Annotated[
        bool, typer.Option("--manual", help="Leave schedules and sensors as they are in Dagster.")
    ] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="On the home of `make demo`, with a simulated frontier."),
    ] = False,
) -> None:
    """Run the live loop: gateway, shipper, vLLM, MLflow and Dagster, until Ctrl-C.

    Schedules and sensors are on, except those that somebody turned off in Dagster. A process that
    dies is started again. `loop status` shows it all in another terminal.
    """
    if demo:
        os.environ.setdefault("LOOP_HOME", DEMO_HOME)
    settings = load_settings()
    if demo and not (settings.artifacts / "report" / "numbers.json").exists():
        raise FileNotFoundError(f"there is no demo in {settings.home} yet: run `make demo` first")

    def services() -> list[Service]:
        return loop_services(settings, schedules=not manual, simulated=demo)

    def try_it(running: Sequence[Service]) -> str:
        url = next(service.url for service in running if service.name == "gateway")
        return f"\nTry it in another terminal:\n\n{first_request(url)}\n" if demo else ""

    home, command = settings.home.absolute(), "loop up --demo" if demo else "loop up"
    keep_running(home, command, services, when_ready=try_it)


def ui(
    port: Annotated[int, typer.Option(help="Dagster's port, or the next that is free.")] = 3000,
    mlflow: Annotated[bool, typer.Option(help="Also start MLflow's browser.")] = True,
    mlflow_port: Annotated[int, typer.Option(help="MLflow's port, likewise.")] = 5000,
) -> None:
    """Open Dagster and MLflow; run history, schedules and sensors' places stay in LOOP_HOME."""
    settings = load_settings()
    home = settings.home.absolute()
    report = settings.artifacts / "report" / "report.html"
    shown = f"\n  report  {report}  (open it in a browser)\n" if report.exists() else ""
    keep_running(
        home,
        "loop ui",
        lambda: page_services(
            settings,
            {"LOOP_HOME": str(home), "PYTHONUNBUFFERED": "1"},
            Ports(),
            mlflow_port=mlflow_port if mlflow else None,
            dagster_port=port,
        ),
        when_ready=lambda _: shown,
    )
