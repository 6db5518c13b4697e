"""A small sweep: some recipes of a grid, and the adapter with the least validation loss.

Not here: how one adapter is trained (``run.py``).
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from typing import Any

import optuna

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.qlora.adapter_folder import META, finish, read_meta
from loop_pipeline.training.qlora.distributed import is_main, wait_for_all
from loop_pipeline.training.qlora.run import Job, finished_title, is_open, record_job
from loop_pipeline.training.qlora.sft import train_adapter


def run_sweep(job: Job) -> dict[str, Any]:
    """Train ``sweep_trials`` adapters, keep and register the best.

    Each trial is a run nested in the sweep's and lies in ``trials/``; together they have the time
    of one. A sweep that was killed goes on with the trial it was at.

    Args:
        job: With what varies in its recipe.

    Returns:
        What ``meta.json`` says of the best adapter; ``trials`` in it has them all.

    Raises:
        ValueError: there is no validation row to compare trials on.
    """
    if not is_open(job):
        return read_meta(job.run_dir / "adapter")
    if is_main():
        with record_job(job, "sweep", {}) as record:
            trials = _trials(job)
            meta = _keep_best(job, trials)
            figures = {k: v for k, v in meta.items() if isinstance(v, int | float)}
            record.metrics({k: float(v) for k, v in figures.items()})
            record.tags(
                {
                    "ended_by": meta["ended_by"],
                    "training_cut_short": meta["training_cut_short"] or "no",
                }
            )
            title = job.title("sweep", None)
            record.rename(finished_title(title, meta, meta["training_cut_short"]))
            record.status("FINISHED")
            finish(record, job.run_dir / "adapter", meta)
    else:
        _trials(job)
    wait_for_all()
    return read_meta(job.run_dir / "adapter")


def _trials(job: Job) -> list[dict[str, Any]]:
    """Metas of the trials, in the order they were drawn: without repetition from the grid."""
    grid: dict[str, list[Any]] = {
        "learning_rate": job.config.sweep_learning_rates or [job.config.learning_rate],
        "lora_r": job.config.sweep_lora_r or [job.config.lora_r],
    }
    count = min(job.config.sweep_trials, math.prod(map(len, grid.values())))
    metas: list[dict[str, Any]] = []

    def validation_loss(trial: optuna.Trial) -> float:
        drawn = {name: trial.suggest_categorical(name, values) for name, values in grid.items()}
        meta = train_adapter(_trial_job(job, trial.number, count, drawn))
        if meta["validation_loss"] is None:
            raise ValueError(
                f"a sweep compares validation losses: {job.train_file.parent}/validation.jsonl is "
                "empty"
            )
        said = ", ".join(f"{name} {value:g}" for name, value in drawn.items())
        job.log(f"trial {trial.number + 1}/{count}: {said}: {meta['validation_loss']:.4f}")
        metas.append(meta)
        return meta["validation_loss"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.GridSampler(grid, seed=job.config.seed)
    optuna.create_study(sampler=sampler).optimize(validation_loss, n_trials=count)
    return metas


def _trial_job(job: Job, number: int, count: int, drawn: dict[str, Any]) -> Job:
    fixed = {"sweep_trials": 0, "sweep_learning_rates": [], "sweep_lora_r": [], "max_usd": None}
    recipe: QLoRAConfig = job.config.model_copy(
        update={
            **fixed,
            **drawn,
            "max_minutes": job.config.minutes / count,
            # The same scale, alpha / r, for every rank.
            "lora_alpha": round(job.config.lora_alpha * drawn["lora_r"] / job.config.lora_r),
        }
    )
    folder = job.run_dir / "trials" / str(number)
    return replace(job, config=recipe, run_dir=folder, nested_in=job.run_dir, register=False)


def _keep_best(job: Job, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Copy the best trial's adapter; its meta, written later, makes it a finished one."""
    best = min(trials, key=lambda meta: meta["validation_loss"])
    adapter = job.run_dir / "adapter"
    shutil.copytree(
        best["adapter_dir"], adapter, ignore=shutil.ignore_patterns(META), dirs_exist_ok=True
    )
    varied = ("learning_rate", "lora_r")
    table = [
        {name: meta["config"][name] for name in varied}
        | {name: meta[name] for name in ("validation_loss", "steps", "mlflow_run_id")}
        for meta in trials
    ]
    return best | {"adapter_dir": str(adapter.absolute()), "trials": table}
