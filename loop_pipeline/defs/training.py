"""Training: labeled pairs -> a frozen set -> an adapter -> a verdict on it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.defs.resources import Loop
from loop_pipeline.report.plots import loss_figure, plot_png_markdown
from loop_pipeline.routing.release import roles
from loop_pipeline.serving.fleet import open_fleet
from loop_pipeline.serving.vllm import StudentServer, adapter_name
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.queries import (
    newest_checkpoint,
    newest_dataset,
    read,
    read_traces,
    records,
    set_checkpoint,
    upsert,
)
from loop_pipeline.store.tables import (
    CheckpointRow,
    DatasetMemberRow,
    FeedbackRow,
    GroupMemberRow,
    LabeledPairRow,
    StudentAnswerRow,
)
from loop_pipeline.store.tracking import log_evaluation, set_alias
from loop_pipeline.training.config import MAX_ANSWER_TOKENS, QLoRAConfig
from loop_pipeline.training.dataset import NotEnoughPairs, freeze, record_training_set
from loop_pipeline.training.evaluation import contract_validity, evaluate, summarise
from loop_pipeline.training.gate import decide
from loop_pipeline.training.overlap import audit
from loop_pipeline.training.selection import select_rows
from loop_pipeline.training.units import settle_traces, settled_traces

# Splits that no student learns from; it answers them through the server that will serve it.
ANSWERED = ("validation", "calibration", "gold")
HOUR = 3600
# vLLM may have been started a moment ago.
START_S = 180
# The training libraries' bars and known warnings would bury the progress lines.
QUIET = {
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


@dg.asset(deps=["labeled_pairs"], group_name="training", kinds={"scikitlearn"}, code_version="2")
def training_set(loop: Loop) -> dg.MaterializeResult:
    """What the next student learns from, frozen under the hash of its content."""
    engine = loop.engine()
    reviews = read(engine, FeedbackRow, columns=["prompt_id"], kind="review")
    selection = select_rows(
        read(engine, LabeledPairRow),
        settle_traces(engine),
        reviewed=set(reviews["prompt_id"]),
        trained=set(read(engine, DatasetMemberRow, split="train")["prompt_id"]),
    )
    try:
        frozen = freeze(selection, loop.settings().artifacts / "datasets")
    except NotEnoughPairs as error:
        raise dg.Failure(f"no training: {error}", allow_retries=False) from error
    record_training_set(engine, frozen, selection)
    why = selection.excluded["reason"].str.replace(r"(: | of |').*", "", regex=True)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(frozen.dataset_id),
        metadata={
            "dagster/row_count": len(selection.rows),
            "folder": frozen.folder,
            "trained_until": frozen.trained_until,
            "left_out": dg.MetadataValue.md(why.value_counts().to_markdown() or "nothing"),
            "triggers": dg.MetadataValue.json(selection.triggers),
            **frozen.counts,
        },
    )


@dg.asset_check(asset=training_set, blocking=True)
def splits_share_nothing(loop: Loop) -> dg.AssetCheckResult:
    """No row of the frozen files shares text, a run of words or a conversation with a held-out one.

    Read back from the files, and compared with every held-out trace.
    """
    engine = loop.engine()
    shared = audit(Path(frozen_set(engine)["folder"]), settled_traces(engine))
    return dg.AssetCheckResult(passed=not any(shared.values()), metadata=dict(shared))


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
    meta = json.loads((output / "adapter" / "meta.json").read_text("utf-8"))
    row = {
        "checkpoint_id": meta["adapter_sha256"],
        "created_at": dt.datetime.now(dt.UTC),
        "dataset_id": dataset["dataset_id"],
        "base_dir": str(settings.base_folder(config.profile)),
        "adapter_dir": meta["adapter_dir"],
        "adapter_sha256": meta["adapter_sha256"],
        "mlflow_run_id": meta["mlflow_run_id"],
        "model_version": str(meta["model_version"]),
        "metrics": {},
        "status": "candidate",
        "reason": "not evaluated yet",
    }
    known = read(engine, CheckpointRow, checkpoint_id=row["checkpoint_id"])
    if known.empty:
        with engine.begin() as connection:
            upsert(connection, CheckpointRow, [row])
    figure = loss_figure([tuple(point) for point in meta["loss_curve"]])
    curve = dg.MetadataValue.md(plot_png_markdown(figure))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(row["checkpoint_id"]),
        metadata={**(result.metadata or {}), "loss": curve},
    )


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


@dg.asset(deps=[qlora_checkpoint], group_name="training", kinds={"vllm", "mlflow"})
def checkpoint_evaluation(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """Candidate against champion on held-out traffic, answered through the server that serves.

    The verdict is written into the data: only an approved checkpoint is deployed and routed to.
    """
    engine, settings = loop.engine(), loop.settings()
    candidate = newest_checkpoint(engine)
    if candidate is None:
        raise dg.Failure("no checkpoint to evaluate: materialize qlora_checkpoint")
    if candidate["status"] == "retired":
        raise dg.Failure(
            f"{adapter_name(candidate['checkpoint_id'])} was taken back ({candidate['reason']}):"
            " train on a newer set",
            allow_retries=False,
        )
    champion = roles(engine).get("champion")
    held_out = read_traces(engine, split=ANSWERED, producer="frontier")
    server = open_fleet(settings).servers[0]
    server.wait_ready(START_S)
    server.check_base(candidate["base_dir"])
    mine = _answers(context, loop, server, candidate, held_out)
    rival = champion or {"checkpoint_id": "base", "adapter_dir": ""}
    if rival["checkpoint_id"] == candidate["checkpoint_id"]:
        rival = {"checkpoint_id": "base", "adapter_dir": ""}
    gold = held_out[held_out["split"] == "gold"]
    ours, theirs = (
        part.assign(valid=contract_validity(part, gold))
        for part in (
            mine[mine["split"] == "gold"],
            _answers(context, loop, server, rival, gold),
        )
    )
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    # A base that was fitted to these tasks, as the `tiny` one is, is judged like a champion.
    verdict = decide(ours, theirs, groups=members.set_index("prompt_id")["group_id"])
    metrics = summarise(ours, gold)
    status = "approved" if verdict.approved else "rejected"
    set_checkpoint(
        engine,
        candidate["checkpoint_id"],
        status=status,
        reason="; ".join(verdict.reasons),
        metrics=metrics | {"rival": rival["checkpoint_id"], "gate": verdict.figures},
    )
    _record_in_mlflow(settings, candidate, metrics, approved=verdict.approved)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(mine),
            "status": status,
            "reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in verdict.reasons)),
            "rival": rival["checkpoint_id"],
            "gold_agreement": metrics["agreement"],
            "metrics": dg.MetadataValue.json(metrics),
        }
    )


def _record_in_mlflow(
    settings: LoopSettings, checkpoint: dict[str, Any], metrics: dict[str, Any], *, approved: bool
) -> None:
    figures = {f"gold_{k}": float(v) for k, v in metrics.items() if isinstance(v, int | float)}
    log_evaluation(settings.tracking_uri, checkpoint["mlflow_run_id"], figures)
    if approved:
        model = settings.mlflow_target()["registered_model"]
        set_alias(settings.tracking_uri, model, checkpoint["model_version"])


def _answers(
    context: dg.AssetExecutionContext,
    loop: Loop,
    server: StudentServer,
    checkpoint: dict[str, Any],
    traces: pd.DataFrame,
) -> pd.DataFrame:
    """Answers of a checkpoint to these traces; only those it has not answered yet are asked."""
    engine, name = loop.engine(), checkpoint["checkpoint_id"]
    known = read(engine, StudentAnswerRow, checkpoint_id=name)
    missing = traces[~traces["prompt_id"].isin(set(known["prompt_id"]))]
    if len(missing):
        context.log.info(f"asking {name[:12]} {len(missing)} held-out requests at {server.url}")
        model = "base"
        if checkpoint["adapter_dir"]:
            model = adapter_name(name)
            server.load(model, checkpoint["adapter_dir"])
        answered = evaluate(
            server, model, missing, checkpoint_id=name, max_tokens=MAX_ANSWER_TOKENS
        )
        with engine.begin() as connection:
            upsert(connection, StudentAnswerRow, records(answered))
        known = read(engine, StudentAnswerRow, checkpoint_id=name)
    return known[known["prompt_id"].isin(set(traces["prompt_id"]))]


@dg.asset_check(asset=checkpoint_evaluation, blocking=True)
def beats_champion(loop: Loop) -> dg.AssetCheckResult:
    """The newest checkpoint was approved; a rejected one goes no further, the champion stays."""
    checkpoint = newest_checkpoint(loop.engine())
    return dg.AssetCheckResult(
        passed=bool(checkpoint) and checkpoint["status"] == "approved",
        description=checkpoint["reason"] if checkpoint else "there is no checkpoint",
    )
