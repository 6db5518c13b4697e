import base64
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.report.pictures.group_plots import best_model_figure, cluster_figure
from loop_pipeline.report.pictures.plots import (
    contestants_figure,
    cost_coverage_figure,
    daily_counts_figure,
    loss_figure,
    plot_png_markdown,
    reliability_figure,
    threshold_figure,
)
from loop_pipeline_tests.report.examples import EVIL, everything

CURVE = [(t / 40, 1 - t / 40, 0.7 + t / 160, 0.65 + t / 160) for t in range(40)]
DAYS = pd.DataFrame(
    [(f"2026-09-{d + 1:02}", k) for d in range(21) for k in ("sft", "$dpo_$") for _ in range(d)],
    columns=["day", "kind"],
)
POINTS = pd.DataFrame(np.random.default_rng(0).normal(size=(20_000, 2)), columns=["x", "y"])
POINTS["name"] = [f"{i % 12} {EVIL}" if i % 20 else None for i in range(len(POINTS))]
TASKS = {
    f"{EVIL} {i}": {"agreement": 0.9, "agreement_low": 0.8, "agreement_high": 0.95}
    for i in range(20)
}
CONTESTANTS = {name: {"tasks": TASKS} for name in ("candidate", "$champion_", "base")}
CONTESTANTS["new"] = {"tasks": {}}
BINS = [
    {"n": 9, "confidence": i / 10, "agreement": i / 10, "low": i / 20, "high": 0.5 + i / 20}
    for i in range(10)
]
STATS = pd.DataFrame(
    [
        {"group_id": f"g{i}", "model": model, "comparable": True, "requests": i}
        | {"quality": 0.9, "quality_low": 0.8, "quality_high": 0.95}
        for i in range(20)
        for model in ("$big_", "small")
        if i != 3 or model == "small"
    ]
)
NAMES = pd.DataFrame({"group_id": [f"g{i}" for i in range(19)], "name": f"{EVIL}"})
FIGURES = {
    "threshold": lambda: threshold_figure(CURVE, 0.8),
    "three columns": lambda: threshold_figure([row[:3] for row in CURVE], None),
    "no curve": lambda: threshold_figure([], None),
    "loss": lambda: loss_figure([(s, 3 * math.exp(-s / 50)) for s in range(1000)]),
    "no loss": lambda: loss_figure([]),
    "clusters": lambda: cluster_figure(POINTS),
    "no clusters": lambda: cluster_figure(POINTS[:0]),
    "days": lambda: daily_counts_figure(DAYS),
    "no days": lambda: daily_counts_figure(DAYS[:0]),
    "contestants": lambda: contestants_figure(CONTESTANTS),
    "no contestants": lambda: contestants_figure({}),
    "reliability": lambda: reliability_figure(BINS),
    "no reliability": lambda: reliability_figure([]),
    "groups": lambda: cost_coverage_figure(everything().groups),
    "no groups": lambda: cost_coverage_figure([]),
    "best models": lambda: best_model_figure(STATS, NAMES),
    "no best models": lambda: best_model_figure(STATS.assign(comparable=False), NAMES),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error")
def test_renders_small(name: str) -> None:
    markdown = plot_png_markdown(FIGURES[name]())
    assert len(markdown) < 60_000
    code = markdown.removeprefix("![plot](data:image/png;base64,").removesuffix(")")
    assert base64.b64decode(code).startswith(b"\x89PNG")


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = (
        "import sys, loop_pipeline.report.pictures.plots, loop_pipeline.report.page;"
        "print(sorted({'matplotlib', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
