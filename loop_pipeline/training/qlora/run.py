"""One adapter from its inputs to its ``meta.json``: trained, recorded, saved, registered.

Not here: the training loop (``trainer.py``).
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml

from loop_pipeline.child_environment import child_environment
from loop_pipeline.hashing import file_sha256
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.mlflow_log.run_record import RunRecord, recorded_run
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.endings import Ending, cut_short, ending
from loop_pipeline.training.qlora.adapter_folder import META, deliver_buffered, finish, read_meta
from loop_pipeline.training.qlora.distributed import is_main, wait_for_all
from loop_pipeline.training.qlora.resume import prepare, remove_checkpoints
from loop_pipeline.training.qlora.tokens import Log
from loop_pipeline.training.qlora.trainer import Build, fit, save_adapter
from loop_pipeline.whole_file import write_whole

PACKAGES = (
    "loop-pipeline",
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "mlflow",
)


def environment() -> dict[str, Any]:
    """Command, versions, device and commit of this process. Thread count and device change sums."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "command": shlex.join(sys.orig_argv),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or "cpu",
        "gpus": torch.cuda.device_count(),
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_commit() -> str:
    """Commit of the running code, ``+changes`` if the tree differs; empty outside a checkout."""
    try:
        commit, changes = (_git("rev-parse", "HEAD"), _git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+changes" if changes else "")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words],  # noqa: S607
        cwd=Path(__file__).parent,
        env=child_environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Job:
    """One adapter to train, and where its run is recorded."""

    stage: Literal["sft", "dpo", "kto"]
    config: QLoRAConfig
    base: str
    base_identity: str
    train_file: Path
    data_sha256: str
    run_dir: Path
    tracking: Tracking
    log: Log
    nested_in: Path | None = None
    register: bool = True
    parent_sha256: str | None = None
    before: Sequence[Ending] = field(default=(), kw_only=True)  # trainings that it stands on

    def title(self, stage: str, rows: int | None) -> str:
        """The run in a line, to be told apart from others in a list."""
        stage = "" if stage == "sft" else stage
        pairs = f"{rows:,} pairs" if rows else ""
        parts = (self.config.profile, self.tracking.data, stage, pairs)
        return " · ".join(part for part in parts if part)

    def facts(self) -> dict[str, Any]:
        """What identifies the run's inputs."""
        return {
            "stage": self.stage,
            "base": self.base,
            "base_identity": self.base_identity,
            "dataset_sha256": self.data_sha256,
            "parent_sha256": self.parent_sha256,
        }


def run_stage(job: Job, load: Callable[[], tuple[Build, dict[str, Any]]]) -> dict[str, Any]:
    """Train, record and register one adapter, unless that was done before.

    Args:
        job: What to train.
        load: Reads the data; returns what builds a trainer, and facts about the data for the meta.

    Returns:
        What the adapter's ``meta.json`` says.
    """
    if is_open(job):
        _train(job, load)
    wait_for_all()
    return read_meta(job.run_dir / "adapter")


def is_open(job: Job) -> bool:
    """Whether the job is still to be done; forgets what another recipe has left in its folder.

    Of a job that is done, MLflow gets what it has missed.
    """
    if is_main():
        recipe = job.config.of_the_adapter()
        same = {k: v for k, v in job.facts().items() if k != "base"}  # the same base elsewhere
        text = json.dumps([recipe, same], sort_keys=True)
        done = prepare(job.run_dir, hashlib.sha256(text.encode()).hexdigest(), job.log)
        if done and job.register:
            deliver_buffered(job.run_dir, job.tracking)
    wait_for_all()
    return not (job.run_dir / "adapter" / META).exists()


def _train(job: Job, load: Callable[[], tuple[Build, dict[str, Any]]]) -> None:
    build, more = load()
    if not is_main():
        trainer, _ = fit(job.stage, build, job.config, job.run_dir, None, lambda _: None)
        save_adapter(trainer, job.run_dir / "adapter")
        return
    with record_job(job, job.stage, more) as record:
        trainer, figures = fit(job.stage, build, job.config, job.run_dir, record, job.log)
        adapter = job.run_dir / "adapter"
        sha256 = save_adapter(trainer, adapter)
        numbers = {k: float(v) for k, v in figures.items() if isinstance(v, int | float)}
        record.metrics(numbers, trainer.state.global_step)
        what = "adapter" if job.stage == "sft" else f"{job.stage} adapter"
        endings = [*job.before, ending(what, figures)]
        said = cut_short(endings)
        record.tags({"ended_by": figures["ended_by"], "training_cut_short": said or "no"})
        title = job.title(job.stage, more.get("rows"))
        record.rename(finished_title(title, figures, said))
        record.status("FINISHED")
        meta = {
            **job.facts(),
            "config": job.config.model_dump(),
            "adapter_dir": str(adapter.absolute()),
            "adapter_sha256": sha256,
            "config_sha256": file_sha256(adapter / "adapter_config.json"),
            **more,
            **figures,
            "endings": endings,
            "training_cut_short": said,
        }
        meta = finish(record, adapter, meta, register=job.register)
    if said:
        job.log(said)
    if meta["mlflow_missing"]:
        job.log(f"{job.stage}: not in MLflow yet: {meta['mlflow_missing']}; run again to deliver")
    remove_checkpoints(job.run_dir)


def finished_title(title: str, figures: Mapping[str, Any], said: str) -> str:
    """A run's title with its result, until the gate has a better one."""
    loss = figures["validation_loss"]
    result = "" if loss is None else f" · validation loss {loss:.3f}"
    return title + result + (" · cut short" if said else "")


@contextmanager
def record_job(job: Job, stage: str, more: dict[str, Any]) -> Iterator[RunRecord]:
    """Record a job's run, with everything that is needed to repeat it.

    Args:
        job: What is trained.
        stage: What kind of run it is, for its tags.
        more: Parameters beside the recipe's.
    """
    around = environment()
    tags = {"stage": stage, "mlflow.source.git.commit": around["git_commit"]}
    files = {
        "environment.json": json.dumps(around, indent=1),
        "recipe.yaml": yaml.safe_dump(job.config.model_dump(), sort_keys=False),
    }
    title = job.title(stage, more.get("rows"))
    tags |= {"about": title}
    with recorded_run(job.tracking, job.run_dir, title, tags, job.nested_in) as record:
        for file, text in files.items():
            write_whole(job.run_dir / file, text)
            record.artifact(job.run_dir / file)
        if not record.resumed:
            record.params(job.config.model_dump() | job.facts() | more)
            record.dataset(job.train_file, job.data_sha256)
        record.deliver_if_due()
        yield record
