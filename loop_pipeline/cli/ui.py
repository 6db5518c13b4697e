"""``loop ui``: Dagster and MLflow in the browser, on what this ``LOOP_HOME`` holds.

The pages themselves are Dagster's and MLflow's; what they show comes from `defs` and `store`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from loop_pipeline.processes.keep_running import keep_running
from loop_pipeline.processes.page_services import page_services
from loop_pipeline.processes.ports import Ports
from loop_pipeline.settings import load_settings


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
