"""Serving: what should answer, made to answer. The server itself is no child of any run."""

from typing import Any

import dagster as dg

from loop_pipeline.defs.evaluation import checkpoint_evaluation
from loop_pipeline.defs.resources import Loop
from loop_pipeline.rollout.release import roles
from loop_pipeline.serving import student_server as vllm
from loop_pipeline.serving.fleet import open_fleet, sort_out
from loop_pipeline.serving.probes import adapters_of
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.store.checkpoints import adapter_name, record_deployment
from loop_pipeline.store.policies import refused_student
from loop_pipeline.store.traces import read_traces


@dg.asset(deps=[checkpoint_evaluation], group_name="serving", kinds={"vllm"}, code_version="2")
def vllm_deployment(loop: Loop) -> dg.MaterializeResult:
    """The students that every vLLM server holds: the champion, its challenger, the one before it.

    Each is loaded by name and has answered held-out requests before an old one goes. If one server
    cannot load it, the old ones still serve everywhere.

    **When to run it:** the jobs `retrain` and `deploy` do; `loop serve` has to be running.

    **If it fails,** everything serves as before. The message names the server and what it said; its
    log is `vllm.log` in LOOP_HOME.

    **Read more** in `docs/concepts/rollout.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    wanted = roles(engine, settings.secret())
    if not wanted and refused_student(engine):
        return dg.MaterializeResult(metadata={"serves": "nobody: the first student was refused"})
    if not wanted:
        raise dg.Failure(
            "no approved checkpoint: nothing is deployed, everything stays at the frontier",
            allow_retries=False,
        )
    adapters, damaged = sort_out(adapters_of(engine, wanted.values()))
    if not adapters:
        raise dg.Failure(f"the deployment stays as it was: {'; '.join(damaged)}")
    try:
        fleet = open_fleet(settings, announce=adapters)
        fleet.wait_ready(vllm.START_S)
        changes = fleet.reconcile(adapters)
        answers = fleet.answers(adapters[0])
    except ServerError as error:
        raise dg.Failure(f"the deployment stays as it was: {error}") from error
    whole = {adapter.name for adapter in adapters}
    named = {adapter_name(row["checkpoint_id"]): row["checkpoint_id"] for row in wanted.values()}
    served = {name: checkpoint for name, checkpoint in named.items() if name in whole}
    record_deployment(engine, served, fleet.urls, str(changes))
    if damaged:
        raise dg.Failure(f"{len(served)} students are served, others not: {'; '.join(damaged)}")
    names = {role: adapter_name(row["checkpoint_id"]) for role, row in wanted.items()}
    asked = str(adapters[0].questions[0].messages[-1]["content"])
    shown = {"students": len(adapters), "servers": len(fleet.urls)} | _answered(answers[0])
    shown |= names | {"changes": str(changes), "asked": asked, "replicas": fleet.urls}
    return dg.MaterializeResult(metadata=shown)


def _answered(answer: Answer) -> dict[str, Any]:
    return {
        "latency_ms": answer.latency_ms,
        "lowest_token_logprob": answer.logprob_min,
        "answered": answer.text,
    }


def ask(loop: Loop, server: StudentServer, name: str) -> tuple[str, Answer]:
    """Put one held-out request to an adapter. Returns the request's text and the answer."""
    traces = read_traces(loop.engine(), split="gold", producer="frontier", limit=1)
    messages: list[dict[str, Any]] = traces.iloc[0]["messages"]
    return messages[-1]["content"], server.answer(name, messages)


@dg.asset_check(asset=vllm_deployment, blocking=True)
def server_answers(loop: Loop) -> dg.AssetCheckResult:
    """Every student answers a held-out request on every server, with log-probabilities.

    **If it fails,** a server is silent or lacks a student, or it gives no log-probabilities,
    without which nobody can tell sure answers from unsure ones. Nothing after it runs.

    **What to do:** read the server's log (`vllm.log` in LOOP_HOME), start `loop serve` again, and
    run the job `deploy`.

    **Read more** in `docs/concepts/rollout.md`.
    """
    wanted = roles(loop.engine(), loop.settings().secret())
    if not wanted:
        return dg.AssetCheckResult(passed=True, description="no student serves: nothing to ask")
    try:
        fleet = open_fleet(loop.settings())
        adapters = adapters_of(loop.engine(), wanted.values())
        answers = {adapter.name: fleet.answers(adapter) for adapter in adapters}
    except ServerError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    mute = sorted(n for n, given in answers.items() if not all(a.token_logprobs for a in given))
    return dg.AssetCheckResult(
        passed=bool(answers) and not mute,
        description=f"no log-probabilities from {', '.join(mute)}" if mute else None,
        metadata={
            "students": len(answers),
            "servers": len(fleet.urls),
            "adapters": sorted(answers),
            "replicas": fleet.urls,
        },
    )
