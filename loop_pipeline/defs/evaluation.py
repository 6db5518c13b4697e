"""Evaluation: a trained adapter's answers to held-out traffic, and the verdict on it."""

from typing import Any

import dagster as dg
import pandas as pd

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.training import qlora_checkpoint
from loop_pipeline.serving.vllm import StudentServer, adapter_name
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.queries import (
    newest_checkpoint,
    read,
    read_traces,
    records,
    set_checkpoint,
    upsert,
)
from loop_pipeline.store.tables import GroupMemberRow, StudentAnswerRow
from loop_pipeline.store.tracking import log_evaluation, set_alias
from loop_pipeline.training.config import MAX_ANSWER_TOKENS
from loop_pipeline.training.evaluation import contract_validity, evaluate, summarise
from loop_pipeline.training.gate import decide

# Splits that no student learns from; it answers them through the server that will serve it.
ANSWERED = ("validation", "calibration", "gold")
# vLLM may have been started a moment ago.
START_S = 180


@dg.asset(deps=[qlora_checkpoint], group_name="training", kinds={"vllm", "mlflow"})
def checkpoint_evaluation(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """Candidate against champion on held-out traffic, answered through the server that serves.

    The verdict is written into the data: only an approved checkpoint is deployed and routed to.
    """
    engine, settings = loop.engine(), loop.settings()
    candidate = newest_checkpoint(engine)
    if candidate is None:
        raise dg.Failure("no checkpoint to evaluate: materialize qlora_checkpoint")
    champion = newest_checkpoint(engine, "approved")
    held_out = read_traces(engine, split=ANSWERED, producer="frontier")
    server = StudentServer(settings.vllm_url, log_path=settings.vllm_log)
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
