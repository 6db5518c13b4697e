"""Training: labeled pairs -> a frozen set -> an adapter."""

import datetime as dt
from typing import Any

import dagster as dg
from sqlalchemy import Engine

from loop_pipeline.defs.resources import Loop
from loop_pipeline.report.plots import loss_figure, plot_png_markdown
from loop_pipeline.store.queries import (
    count_validated_pairs,
    newest_dataset,
    read,
    records,
    set_checkpoint,
    upsert,
)
from loop_pipeline.store.tables import (
    CheckpointRow,
    DatasetMemberRow,
    DatasetRow,
    LabeledPairRow,
    TraceRow,
)
from loop_pipeline.training.adapters import finished_adapters
from loop_pipeline.training.config import QLoRAConfig
from loop_pipeline.training.dataset import HELD_OUT, NotEnoughPairs, freeze, select_rows

HOUR = 3600
# The training libraries' bars and known warnings would bury the progress lines; TRL tells its
# makers about every run.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}


class TrainConfig(dg.Config, QLoRAConfig):
    """The recipe of a run: the training process's input and the Launchpad's form are one schema."""


@dg.asset(deps=["labeled_pairs"], group_name="training", kinds={"pandas"}, code_version="1")
def training_set(loop: Loop) -> dg.MaterializeResult:
    """What the next student learns from, frozen under the hash of its content."""
    engine = loop.engine()
    columns = [
        "prompt_id",
        "messages",
        "output",
        "split",
        "dedup_key",
        "conversation_id",
        "template_hash",
    ]
    held_out = read(engine, TraceRow, columns=["dedup_key", "conversation_id"], split=HELD_OUT)
    rows, counts = select_rows(
        read(engine, LabeledPairRow, kind="sft").drop(columns="day"),
        read(engine, TraceRow, columns=columns),
        held_out,
    )
    try:
        frozen = freeze(rows, counts, loop.settings().artifacts / "datasets")
    except NotEnoughPairs as error:
        raise dg.Failure(f"no training: {error}", allow_retries=False) from error
    members = rows[["prompt_id", "split"]].assign(dataset_id=frozen.dataset_id)
    row = {
        "dataset_id": frozen.dataset_id,
        "created_at": dt.datetime.now(dt.UTC),
        "folder": frozen.folder,
        "counts": frozen.counts,
        "validated_pairs": count_validated_pairs(engine),
    }
    with engine.begin() as connection:
        upsert(connection, DatasetRow, [row])
        upsert(connection, DatasetMemberRow, records(members))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(frozen.dataset_id),
        metadata={"dagster/row_count": len(rows), "folder": frozen.folder, **frozen.counts},
    )


@dg.asset_check(asset=training_set, blocking=True)
def splits_share_nothing(loop: Loop) -> dg.AssetCheckResult:
    """No request and no conversation of the training set occurs in a held-out split."""
    engine = loop.engine()
    members = read(engine, DatasetMemberRow, dataset_id=frozen_set(engine)["dataset_id"])
    traces = read(engine, TraceRow, columns=["prompt_id", "split", "dedup_key", "conversation_id"])
    held_out = traces[traces["split"].isin(HELD_OUT)]
    mine = traces[traces["prompt_id"].isin(set(members["prompt_id"]))]
    shared = {
        name: len(set(mine[name].dropna()) & set(held_out[name].dropna()))
        for name in ("prompt_id", "dedup_key", "conversation_id")
    }
    return dg.AssetCheckResult(passed=not any(shared.values()), metadata=shared)


@dg.asset(deps=[training_set], group_name="training", kinds={"pytorch"}, pool="gpu")
def base_model(
    context: dg.AssetExecutionContext,
    config: TrainConfig,
    loop: Loop,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """The model that every adapter is trained on; the `tiny` profile pre-trains its own, once."""
    return _train(context, config, loop, pipes, "base", {})


@dg.asset(
    deps=[training_set, base_model],
    group_name="training",
    kinds={"pytorch", "huggingface", "mlflow"},
    pool="gpu",
    op_tags={"dagster/max_runtime": 24 * HOUR},
)
def qlora_checkpoint(
    context: dg.AssetExecutionContext,
    config: TrainConfig,
    loop: Loop,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """A 4-bit QLoRA adapter trained on the training set: a candidate until it is evaluated."""
    engine, settings = loop.engine(), loop.settings()
    dataset = frozen_set(engine)
    output = settings.artifacts / "checkpoints" / dataset["dataset_id"][:16]
    result = _train(context, config, loop, pipes, "qlora", {"output_dir": str(output)})
    metas = finished_adapters(output)
    _record_candidates(engine, dataset["dataset_id"], metas)
    figure = loss_figure([tuple(point) for point in metas[0]["loss_curve"]])
    curve = dg.MetadataValue.md(plot_png_markdown(figure))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(metas[0]["adapter_sha256"]),
        metadata={**(result.metadata or {}), "loss": curve},
    )


def _record_candidates(engine: Engine, dataset_id: str, metas: list[dict[str, Any]]) -> None:
    """A row for each new adapter; what MLflow knows of the others is brought up to date."""
    known = set(read(engine, CheckpointRow, columns=["checkpoint_id"])["checkpoint_id"])
    # The supervised adapter last: the newest candidate is the one that is released by default.
    for meta in reversed(metas):
        recorded = {name: meta[name] for name in ("mlflow_run_id", "model_version")}
        missing = meta["mlflow_missing"]
        reason = "not evaluated yet" + (f"; MLflow has no record of it: {missing}" * bool(missing))
        row = {
            "checkpoint_id": meta["adapter_sha256"],
            "created_at": dt.datetime.now(dt.UTC),
            "dataset_id": dataset_id,
            "base_dir": meta["base"],
            "adapter_dir": meta["adapter_dir"],
            "adapter_sha256": meta["adapter_sha256"],
            "metrics": {name: meta[name] for name in ("stage", "parent_sha256")},
            "status": "candidate",
            "reason": reason,
            **recorded,
        }
        if row["checkpoint_id"] in known:
            set_checkpoint(engine, row["checkpoint_id"], **recorded)
            continue
        with engine.begin() as connection:
            upsert(connection, CheckpointRow, [row])


def frozen_set(engine: Engine) -> dict[str, Any]:
    """The training set in use."""
    dataset = newest_dataset(engine)
    if dataset is None:
        raise dg.Failure("no training set yet: materialize training_set", allow_retries=False)
    return dataset


def _train(
    context: dg.AssetExecutionContext,
    config: TrainConfig,
    loop: Loop,
    pipes: dg.PipesSubprocessClient,
    process: str,
    extras: dict[str, Any],
) -> dg.MaterializeResult:
    settings = loop.settings()
    tags = {"dagster_run_id": context.run.run_id}
    invocation = pipes.run(
        context=context,
        command=[str(settings.train_python), "-m", f"loop_pipeline.training.{process}"],
        env=QUIET,
        extras={
            "config": config.model_dump(),
            "dataset_dir": frozen_set(loop.engine())["folder"],
            "base_dir": str(settings.base_folder(config.profile)),
            "mlflow": settings.mlflow_target() | {"tags": tags},
            **extras,
        },
    )
    return invocation.get_materialize_result()
