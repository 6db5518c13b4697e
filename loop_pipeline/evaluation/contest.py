"""One candidate beside its rivals on the same gold rows: figures, differences, gallery.

Not here: the rule that approves (``gate.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from loop_pipeline.confidence.coverage import compare_coverage, validation_coverage
from loop_pipeline.evaluation.differences import differences, fresh, unspent
from loop_pipeline.evaluation.gallery import wins_and_losses
from loop_pipeline.evaluation.gate import Decision, best_champion, decide
from loop_pipeline.evaluation.held_out import mark_answers
from loop_pipeline.evaluation.metrics import reliability_bins, summarise, summarise_by
from loop_pipeline.evaluation.preference_gate import StageMetrics, keep_preference_stage
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.traces.messages import request_text, source_text


@dataclass(frozen=True)
class Contest:
    """How a candidate did: the decision, every figure (JSON-ready), and answers to read."""

    decision: Decision
    metrics: dict[str, Any]
    gallery: list[dict[str, Any]]


def prepare(
    traces: pd.DataFrame,
    members: pd.DataFrame,
    feedback: pd.DataFrame,
    units: pd.Series | None = None,
) -> pd.DataFrame:
    """Held-out requests as a contest takes them: each once, with group, cluster and reference.

    Args:
        traces: frontier traces with ``contract``. A request that comes again is no new evidence.
        members: ``group_members``; without any, the prompt template stands in for the group.
        feedback: a person's edit is a better reference than the frontier's answer; the last counts.
        units: by prompt id, the unit that a request was given with its split. One that has none is
            of its conversation, or by itself.
    """
    rows = (
        traces.sort_values("prompt_id", kind="stable")
        .drop_duplicates("dedup_key")
        .reset_index(drop=True)
    )
    group = members.set_index("prompt_id")["group_id"].to_dict()
    edits = feedback[feedback["kind"] == "modified"].dropna(subset=["edited_output"])
    edited = dict(zip(edits["prompt_id"], edits["edited_output"], strict=True))
    return rows.assign(
        group_id=rows["prompt_id"].map(lambda key: group.get(key, UNASSIGNED))
        if group
        else rows["template_hash"],
        cluster=(rows["prompt_id"].map({} if units is None else units.to_dict()).astype(object))
        .fillna(rows["conversation_id"])
        .fillna(rows["prompt_id"]),
        reference=[
            edited.get(k, o) for k, o in zip(rows["prompt_id"], rows["output"], strict=True)
        ],
        request_text=rows["messages"].map(request_text),
        source=rows["messages"].map(source_text),
    )


def hold_contest(
    answers: Mapping[str, pd.DataFrame],
    held_out: pd.DataFrame,
    embedder: TextEmbedder,
    *,
    target_agreement: float,
    delta: float,
    base_was_fitted: bool,
    trained_until: pd.Timestamp | None,
    tiers: Tiers,
    earlier: Mapping[str, pd.DataFrame] | None = None,
    kept: Collection[str] = (),
    cut_short: str = "",
) -> Contest:
    """Judge a candidate against the champion, or against the base if there is no champion.

    Args:
        answers: ``student_answers`` rows by contestant: ``candidate``, ``base``, and any others;
            ``champion`` if one serves.
        held_out: what `prepare` returned, all held-out splits.
        embedder: the loop's own; its cosine is the similarity of texts.
        target_agreement: what certificates promise.
        delta: chance that such a promise is broken.
        base_was_fitted: the base was made from this traffic, so that a candidate cannot be asked to
            beat it, only not to be worse.
        trained_until: when the training set ends; later gold rows are also reported apart.
        tiers: who looks for hallucinations in texts.
        earlier: stored answers of those that were champion before, by checkpoint id. If the best of
            them is better than today's, the candidate has to match it as well.
        kept: gold rows (prompt ids) that decide nothing: the candidate's figures on them are what
            may be quoted of it (`unspent_gold.kept_back`).
        cut_short: what has to be said if its training did not come to its end.

    Raises:
        ValueError: there is no gold request.
    """
    gold = held_out[held_out["split"] == "gold"]
    left_out = gold["prompt_id"].isin(set(kept))
    gold, apart = gold[~left_out], gold[left_out]
    if gold.empty:
        raise ValueError("no gold request to judge a candidate on: import more traces")
    judged = {name: _on_gold(rows, gold, embedder, tiers) for name, rows in answers.items()}
    ours = judged["candidate"]
    rival = "champion" if "champion" in answers else "base"
    both = ("candidate", rival)
    anchor = None
    if earlier and "champion" in answers:
        past = {key: _on_gold(rows, gold, embedder, tiers) for key, rows in earlier.items()}
        anchor = best_champion(judged["champion"], past)
    decision = decide(
        ours,
        judged.get("champion"),
        base=judged["base"],
        base_was_fitted=base_was_fitted,
        anchor=anchor[1] if anchor else None,
        cut_short=cut_short,
        groups=gold.set_index("prompt_id")["group_id"],
        units=gold.set_index("prompt_id")["cluster"],
        coverage=compare_coverage(
            _with_context(answers["candidate"], held_out),
            _with_context(answers["champion"], held_out) if "champion" in answers else None,
            target_agreement=target_agreement,
            delta=delta,
        ),
    )
    clusters = gold.set_index("prompt_id")["cluster"]
    others = {name: rows for name, rows in judged.items() if name != "candidate"}
    summaries = {name: summarise(rows) for name, rows in judged.items()}
    metrics = summaries["candidate"] | {
        "groups": summarise_by(ours, "group_id"),
        "similarity_measure": f"cosine of the loop's embedder {embedder.version[:12]}: hashed"
        " n-grams and SVD, no pretrained weights",
        "reliability": reliability_bins(ours),
        "fresh": fresh(ours, judged[rival], gold, trained_until),
        "contestants": {
            name: {"key": _key(answers[name])} | summary for name, summary in summaries.items()
        },
        "differences": {name: differences(ours, rows, clusters) for name, rows in others.items()},
        "validation_coverage": validation_coverage(
            _with_context(answers["candidate"], held_out),
            target_agreement=target_agreement,
            delta=delta,
        ),
        "gate": decision.figures,
        "reasons": decision.reasons,
        "unspent": unspent(*(_on_gold(answers[k], apart, embedder, tiers) for k in both)),
        "rival": _key(answers[rival]),
        "anchor": anchor[0] if anchor else None,
    }
    return Contest(decision, metrics, wins_and_losses(ours, judged[rival]))


def _on_gold(
    answers: pd.DataFrame, gold: pd.DataFrame, embedder: TextEmbedder, tiers: Tiers
) -> pd.DataFrame:
    own = answers[answers["prompt_id"].isin(set(gold["prompt_id"]))]
    return mark_answers(own.reset_index(drop=True), gold, embedder, tiers)


def _key(answers: pd.DataFrame) -> str:
    return str(answers["checkpoint_id"].iloc[0])


def _with_context(answers: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    columns = ["prompt_id", "group_id", "contract", "source", "cluster"]
    return answers.merge(held_out[columns], on="prompt_id")


def pick(
    contests: Mapping[str, Contest], parents: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Status and reason of each candidate: of those that pass, the best one is approved.

    The best is the one that agrees most often on gold. An adapter of a preference stage is no rival
    of the supervised one it was made from: `keep` says which of the two stands.

    Each is judged at its own level: k candidates that are in truth too bad have up to k times the
    chance of one that any of them passes.

    Args:
        contests: by checkpoint id, in the order of creation; the earlier one wins a tie.
        parents: of those with a preference stage, the supervised checkpoint and its figures.
    """
    passed = [key for key, contest in contests.items() if contest.decision.approved]
    first: dict[str, str] = {}  # what is said before the gate's reasons
    out = set()
    for key, (parent, figures) in parents.items():
        kept = keep_preference_stage(
            StageMetrics.of(figures), StageMetrics.of(contests[key].metrics)
        )
        said = f"{'' if kept.keep else 'not '}kept ({'; '.join(kept.reasons)})."
        first[key] = f"The preference stage is {said}"
        if not kept.keep:
            out.add(key)
        elif key in passed:
            out.add(parent)
            first[parent] = f"Its preference stage, {key[:12]}, is {said}"
    running = [key for key in passed if key not in out]
    best = max(running, key=lambda key: contests[key].metrics["agreement"], default=None)
    verdicts = {}
    for key, contest in contests.items():
        status = "approved" if key == best else "retired" if key in passed else "rejected"
        reasons = [first[key]] if key in first else []
        if key in running and key != best:
            better = f"It passes, but {str(best)[:12]} agrees at least as often and is taken."
            reasons.append(better)
        reasons += contest.decision.reasons
        verdicts[key] = {"status": status, "reason": "; ".join(reasons)}
    return verdicts
