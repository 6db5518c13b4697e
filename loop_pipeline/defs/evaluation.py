"""Evaluation: trained adapters' answers to held-out traffic, and the decisions on them."""

from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from loop_pipeline.artifacts import embedder_path, evaluation_folder
from loop_pipeline.confidence.ceiling import ceiling_words
from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.training import qlora_checkpoint
from loop_pipeline.evaluation.contest import prepare
from loop_pipeline.evaluation.decisions import Bench, decide_waiting, deliver, last_decisions
from loop_pipeline.evaluation.gallery import to_markdown
from loop_pipeline.evaluation.metrics import flat_metrics
from loop_pipeline.groups.clustering.fit import Groups
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.embedding.model_embedder import open_embedder
from loop_pipeline.report.evaluation_tables import (
    contestants_table,
    differences_table,
    fresh_sentence,
    read_gallery,
    write_files,
)
from loop_pipeline.report.pictures.plots import (
    contestants_figure,
    plot_png_markdown,
    reliability_figure,
)
from loop_pipeline.rollout.release import roles
from loop_pipeline.routing.evidence.row_units import with_units
from loop_pipeline.serving.fleet import open_fleet
from loop_pipeline.store.checkpoints import adapter_name, newest_checkpoint
from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import GroupMemberRow, StudentAnswerRow, TaskGroupRow
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces.shown_text import text_list, text_table

# Splits that no student learns from; it answers them through the server that will serve it.
ANSWERED = ("validation", "calibration", "gold")
# Of `evaluation.metrics.flat_metrics`.
PLOTTED = (
    "gold_agreement",
    "gold_agreement_low",
    "gold_agreement_high",
    "unspent_gold_agreement",
    "unspent_gold_agreement_low",
    "gate_rival_agreement",
    "gate_difference",
    "gate_coverage_candidate",
    "gate_coverage_rival",
    "gold_validity",
    "gold_hallucination",
    "gold_ece",
    "gold_auroc",
)


class EvaluationConfig(dg.Config):
    """What an evaluation may be asked beyond judging whoever waits."""

    again: bool = Field(
        False,
        description="Judge the newest checkpoint once more if it was rejected, and ask again what"
        " did not fit the context.",
    )


@dg.asset(deps=[qlora_checkpoint], group_name="training", kinds={"vllm", "mlflow"})
def checkpoint_evaluation(
    context: dg.AssetExecutionContext, config: EvaluationConfig, loop: Loop
) -> dg.MaterializeResult:
    """The gate: new students against the one that serves, on requests that nobody learned from.

    All answer through the server that will serve them, and are compared row by row. Only an
    approved student is deployed. The reasons are in plain words; what speaks against comes first.

    **When to run it:** the job `retrain` does; `loop serve` has to be running. To judge a refused
    student once more, materialize it with `again: true`.

    **If it fails,** a server did not answer or there is nothing to decide on; the
    decisions stay as they were, and answers that were given are kept.

    **Read more** in `docs/concepts/gate.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    if newest_checkpoint(engine) is None:
        raise dg.Failure("no checkpoint to evaluate: materialize qlora_checkpoint")
    judged, failed = decide_waiting(_bench(context, loop, again=config.again))
    untold = deliver(engine, settings)
    for key, why in [*failed.items(), *untold.items()]:
        context.log.warning(f"{adapter_name(key)}: {why}")
    if failed and not judged:
        raise dg.Failure(f"the decisions stay as they were: {'; '.join(failed.values())}")
    missing = {"not_judged": failed, "not_in_mlflow": untold}
    return dg.MaterializeResult(metadata=_metadata(loop, missing))


def _bench(context: dg.AssetExecutionContext, loop: Loop, *, again: bool) -> Bench:
    engine, settings = loop.engine(), loop.settings()
    asked = read_traces(engine, split=ANSWERED, producer="frontier")
    held_out = prepare(
        asked,
        read(engine, GroupMemberRow, columns=["prompt_id", "group_id"]),
        read_feedback(engine),
        with_units(engine, asked, asked["messages"]).set_index("prompt_id")["unit"],
    )
    groups = Groups.from_rows(read(engine, TaskGroupRow))
    return Bench(
        engine=engine,
        settings=settings,
        server=open_fleet(settings).servers[0],
        held_out=held_out,
        embedder=open_embedder(
            embedder_path(settings, groups.embedder_version),
            settings.train_python,
            **settings.embedder_access(),
        )
        if groups
        else Embedder.fit(held_out["request_text"].tolist(), seed=7),
        say=context.log.info,
        write_files=write_files,
        again=again,
    )


def _metadata(loop: Loop, missing: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What the UI shows: all decisions of the last evaluation, and the one that matters in full."""
    engine, settings = loop.engine(), loop.settings()
    decisions = last_decisions(engine)
    problems = {name: dg.MetadataValue.json(found) for name, found in missing.items() if found}
    if not decisions:
        return {"status": "nothing was judged yet", **problems}
    shown = next((row for row in decisions if row["status"] == "approved"), decisions[-1])
    metrics, folder = shown["metrics"], evaluation_folder(settings, shown["checkpoint_id"])
    reasons = text_list(metrics["reasons"])
    pictures = {
        "side_by_side": contestants_figure(metrics["contestants"]),
        "reliability": reliability_figure(metrics["reliability"]),
    }
    return {
        "status": shown["status"],
        "reasons": dg.MetadataValue.md(reasons),
        "dagster/row_count": count(engine, StudentAnswerRow, checkpoint_id=shown["checkpoint_id"]),
        "judged": len(decisions),
        "approved": sum(row["status"] == "approved" for row in decisions),
        **_figures(metrics),
        **{n: dg.MetadataValue.md(plot_png_markdown(figure)) for n, figure in pictures.items()},
        "decisions": dg.MetadataValue.md(_decision_table(decisions)),
        "contestants": dg.MetadataValue.md(contestants_table(metrics)),
        "differences": dg.MetadataValue.md(differences_table(metrics)),
        "newer_than_the_training_set": fresh_sentence(metrics),
        "gallery": dg.MetadataValue.md(to_markdown(read_gallery(folder))),
        "gallery_file": dg.MetadataValue.path(str(folder / "gallery.html")),
        "rival": metrics["rival"],
        "ceiling": ceiling_words(frontier_twice(engine).whole),
        "metrics": dg.MetadataValue.json(metrics),
        **problems,
    }


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures that are compared from student to student, named as in MLflow."""
    flat = flat_metrics(metrics)
    return {name: round(flat[name], 4) for name in PLOTTED if name in flat}


def _decision_table(decisions: list[dict[str, Any]]) -> str:
    rows = [
        {
            "adapter": adapter_name(row["checkpoint_id"]),
            "status": row["status"],
            "agreement": row["metrics"]["agreement"],
            "validity": row["metrics"]["validity"],
            "hallucination": row["metrics"]["hallucination"],
            "certified coverage": row["metrics"]["gate"].get("coverage", {}).get("candidate"),
        }
        for row in decisions
    ]
    return text_table(pd.DataFrame(rows), index=False)


@dg.asset_check(asset=checkpoint_evaluation, blocking=True)
def beats_champion(loop: Loop) -> dg.AssetCheckResult:
    """A student of the last evaluation was approved; a refused one goes no further.

    **If it fails,** the student that serves goes on serving, and nothing after this runs. Where no
    student serves yet it only warns: everything stays at the frontier, and the report says why.

    **What to do:** read the reasons. Too few held-out requests: import more traffic. Worse than the
    one that serves: more pairs, a larger base, or a longer training.

    **Read more** in `docs/concepts/gate.md`.
    """
    decisions = last_decisions(loop.engine())
    best = next((row for row in decisions if row["status"] == "approved"), None)
    said = [f"{adapter_name(row['checkpoint_id'])}: {row['reason']}" for row in decisions]
    return dg.AssetCheckResult(
        passed=best is not None,
        severity=dg.AssetCheckSeverity.ERROR
        if roles(loop.engine()) or not decisions
        else dg.AssetCheckSeverity.WARN,
        description=best["reason"] if best else " | ".join(said) or "nothing was judged yet",
        metadata=_gate(best or decisions[-1]) if decisions else {},
    )


def _gate(decision: dict[str, Any]) -> dict[str, Any]:
    metrics = decision["metrics"]
    return _figures(metrics) | {"gate": dg.MetadataValue.json(metrics["gate"])}
