"""One candidate beside its rivals on the same gold rows: figures, differences, gallery.

Not here: the rule that approves (``gate.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from loop_pipeline.confidence.coverage import compare_coverage
from loop_pipeline.evaluation.gallery import wins_and_losses
from loop_pipeline.evaluation.gate import Decision, best_champion, decide
from loop_pipeline.evaluation.held_out import mark_answers
from loop_pipeline.evaluation.metrics import reliability_bins, summarise, summarise_by
from loop_pipeline.evaluation.preference_gate import StageMetrics, keep_preference_stage
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.stats.paired import paired_bootstrap
from loop_pipeline.traces.messages import request_text, source_text

# Fewer rows since the training set was frozen say nothing by themselves.
MIN_FRESH = 30


@dataclass(frozen=True)
class Contest:
    """How a candidate did: the decision, every figure (JSON-ready), and answers to read."""

    decision: Decision
    metrics: dict[str, Any]
    gallery: list[dict[str, Any]]


def prepare(traces: pd.DataFrame, members: pd.DataFrame, feedback: pd.DataFrame) -> pd.DataFrame:
    """Held-out requests as a contest takes them: each once, with group, cluster and reference.

    Args:
        traces: frontier traces with ``contract``. A request that comes again is no new evidence.
        members: ``group_members``; without any, the prompt template stands in for the group.
        feedback: a person's edit is a better reference than the frontier's answer; the last counts.
    """
    rows = traces.sort_values("prompt_id").drop_duplicates("dedup_key").reset_index(drop=True)
    group = members.set_index("prompt_id")["group_id"].to_dict()
    edits = feedback[feedback["kind"] == "modified"].dropna(subset=["edited_output"])
    edited = dict(zip(edits["prompt_id"], edits["edited_output"], strict=True))
    return rows.assign(
        group_id=rows["prompt_id"].map(lambda key: group.get(key, UNASSIGNED))
        if group
        else rows["template_hash"],
        cluster=rows["conversation_id"].fillna(rows["prompt_id"]),
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
        cut_short: what has to be said if its training did not come to its end.

    Raises:
        ValueError: there is no gold request.
    """
    gold = held_out[held_out["split"] == "gold"]
    if gold.empty:
        raise ValueError("no gold request to judge a candidate on: import more traces")
    judged = {name: _on_gold(rows, gold, embedder, tiers) for name, rows in answers.items()}
    ours = judged["candidate"]
    rival = "champion" if "champion" in answers else "base"
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
        "fresh": _fresh(ours, judged[rival], gold, trained_until),
        "contestants": {
            name: {"key": _key(answers[name])} | summary for name, summary in summaries.items()
        },
        "differences": {name: _differences(ours, rows, clusters) for name, rows in others.items()},
        "gate": decision.figures,
        "reasons": decision.reasons,
        "rival": _key(answers[rival]),
        "anchor": anchor[0] if anchor else None,
    }
    return Contest(decision, metrics, wins_and_losses(ours, judged[rival]))


def _on_gold(
    answers: pd.DataFrame, gold: pd.DataFrame, embedder: TextEmbedder, tiers: Tiers
) -> pd.DataFrame:
    return mark_answers(
        answers[answers["split"] == "gold"].reset_index(drop=True), gold, embedder, tiers
    )


def _key(answers: pd.DataFrame) -> str:
    return str(answers["checkpoint_id"].iloc[0])


def _with_context(answers: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    columns = ["prompt_id", "group_id", "contract", "source"]
    return answers.merge(held_out[columns], on="prompt_id")


def _differences(new: pd.DataFrame, old: pd.DataFrame, clusters: pd.Series) -> dict[str, Any]:
    """Candidate minus another on the rows both answered, with 95% intervals."""
    columns = ["prompt_id", "agrees", "valid", "flagged"]
    pair = new.merge(old[columns], on="prompt_id", suffixes=("", "_old"))
    if pair.empty:
        return {}
    pair["cluster"] = pair["prompt_id"].map(clusters)
    tasks = {str(t): _difference(part, "agrees") for t, part in pair.groupby("task", sort=True)}
    names = {"agrees": "agreement", "valid": "validity", "flagged": "hallucination"}
    return {name: _difference(pair, column) for column, name in names.items()} | {"tasks": tasks}


def _difference(pair: pd.DataFrame, column: str) -> dict[str, Any]:
    new, old = pair[column].astype(float), pair[f"{column}_old"].astype(float)
    return paired_bootstrap(new, old, pair["cluster"])._asdict()


def _fresh(
    new: pd.DataFrame, old: pd.DataFrame, gold: pd.DataFrame, since: pd.Timestamp | None
) -> dict[str, Any] | None:
    """The figures on gold rows that are newer than the training set."""
    if since is None:
        return None
    newer = set(gold.loc[pd.to_datetime(gold["ts"], utc=True) > since, "prompt_id"])
    mine = new[new["prompt_id"].isin(newer)]
    about: dict[str, Any] = {"since": since.isoformat(), "n": len(mine)}
    if len(mine) < MIN_FRESH:
        return about
    clusters = gold.set_index("prompt_id")["cluster"]
    theirs = old[old["prompt_id"].isin(newer)]
    about["to_rival"] = _differences(mine, theirs, clusters)
    return summarise(mine) | about


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
