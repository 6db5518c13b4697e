"""Prints the newest report and where to look further.

Not here: making it (``gather.py``).
"""

from __future__ import annotations

from loop_pipeline.report.numbers import LoopNumbers
from loop_pipeline.report.summary import summary
from loop_pipeline.settings import LoopSettings


def show(settings: LoopSettings) -> None:
    """Print the newest report's summary and how to look further."""
    folder = settings.artifacts / "report"
    if not (folder / "numbers.json").exists():
        raise FileNotFoundError(f"no report yet in {folder}: materialize loop_report")
    numbers = LoopNumbers.model_validate_json((folder / "numbers.json").read_text())
    home = settings.home.absolute()
    print(f"\n{summary(numbers)}\n")
    print(f"report    {folder / 'report.html'}")
    print(f"browse    LOOP_HOME={home} .venv/bin/loop ui       (Dagster and MLflow)")
    print(f"student   LOOP_HOME={home} .venv/bin/loop serve    (the model behind an API)")
