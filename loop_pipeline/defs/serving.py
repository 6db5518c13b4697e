"""Serving: what should answer, made to answer. The server itself is no child of any run."""

import datetime as dt
from typing import Any

import dagster as dg

from loop_pipeline.defs.evaluation import checkpoint_evaluation
from loop_pipeline.defs.resources import Loop
from loop_pipeline.serving.vllm import Answer, ServerError, StudentServer, adapter_name
from loop_pipeline.store.queries import newest_checkpoint, read_traces, upsert
from loop_pipeline.store.tables import DeploymentRow
from loop_pipeline.traces.records import digest
from loop_pipeline.training.config import MAX_ANSWER_TOKENS


@dg.asset(deps=[checkpoint_evaluation], group_name="serving", kinds={"vllm"})
def vllm_deployment(loop: Loop) -> dg.MaterializeResult:
    """The approved adapter, loaded by name into the running vLLM server and asked one question."""
    engine, settings = loop.engine(), loop.settings()
    checkpoint = newest_checkpoint(engine, "approved")
    if checkpoint is None:
        raise dg.Failure(
            "no approved checkpoint: nothing is deployed, everything stays at the frontier",
            allow_retries=False,
        )
    name = adapter_name(checkpoint["checkpoint_id"])
    server = StudentServer(settings.vllm_url, log_path=settings.vllm_log)
    try:
        server.check_base(checkpoint["base_dir"])
        question, answer = _probe(loop, server, name, checkpoint["adapter_dir"])
        changes = server.reconcile({name: checkpoint["adapter_dir"]})
    except ServerError as error:
        raise dg.Failure(f"the deployment stays as it was: {error}") from error
    now = dt.datetime.now(dt.UTC)
    row = {
        "deployment_id": digest(name, server.url, now.isoformat())[:16],
        "at": now,
        "checkpoint_id": checkpoint["checkpoint_id"],
        "adapter_name": name,
        "server_url": server.url,
        "status": "serving",
        "detail": str(changes),
    }
    with engine.begin() as connection:
        upsert(connection, DeploymentRow, [row])
    return dg.MaterializeResult(
        metadata={
            "adapter": name,
            "server": server.url,
            "changes": str(changes),
            "asked": question,
            "answered": answer.text,
            "lowest_token_logprob": answer.logprob_min,
            "latency_ms": answer.latency_ms,
        }
    )


def _probe(loop: Loop, server: StudentServer, name: str, adapter: str) -> tuple[str, Answer]:
    # The new adapter must answer beside the old one before the old one goes.
    new = server.load(name, adapter)
    try:
        return ask(loop, server, name)
    except ServerError:
        if new:
            server.unload(name)
        raise


def ask(loop: Loop, server: StudentServer, name: str) -> tuple[str, Answer]:
    """Put one held-out request to an adapter. Returns the request's text and the answer."""
    traces = read_traces(loop.engine(), split="gold", producer="frontier", limit=1)
    messages: list[dict[str, Any]] = traces.iloc[0]["messages"]
    return messages[-1]["content"], server.answer(name, messages, max_tokens=MAX_ANSWER_TOKENS)


@dg.asset_check(asset=vllm_deployment, blocking=True)
def server_answers(loop: Loop) -> dg.AssetCheckResult:
    """The approved adapter answers a held-out request, with log-probabilities."""
    settings, checkpoint = loop.settings(), newest_checkpoint(loop.engine(), "approved")
    server = StudentServer(settings.vllm_url, log_path=settings.vllm_log)
    try:
        _, answer = ask(loop, server, adapter_name((checkpoint or {})["checkpoint_id"]))
    except (ServerError, KeyError) as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    return dg.AssetCheckResult(
        passed=bool(answer.token_logprobs), metadata={"tokens": len(answer.token_logprobs)}
    )
