"""From waiting candidates to decisions: in the store first, then in MLflow, until it is there.

A decision is written once everything it rests on is stored: answers, figures and files. It is the
store that approves. MLflow is told afterwards; that it was told is written down as well.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.artifacts import evaluation_folder
from loop_pipeline.confidence.ceiling import ceiling_words
from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.evaluation.contest import Contest, hold_contest, pick
from loop_pipeline.evaluation.contestants import (
    Contestant,
    answers_of,
    base_model,
    base_was_fitted,
    few_shot_base,
    sample,
    student,
)
from loop_pipeline.evaluation.metrics import flat_metrics
from loop_pipeline.evaluation.unspent_gold import kept_back
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import (
    adapter_name,
    newest_checkpoint,
    set_checkpoint,
    set_checkpoints,
    spent_gold,
)
from loop_pipeline.store.database import read, records
from loop_pipeline.store.mlflow_log.mlflow_runs import describe_version, log_evaluation
from loop_pipeline.store.policies import champion_of, champions_so_far
from loop_pipeline.store.tables import CheckpointRow, DatasetRow, StudentAnswerRow
from loop_pipeline.store.tracking import TrackingDown, few_retries, set_alias

UNTOLD = "not delivered yet"
_Checkpoint = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What candidates are judged with.

    Args:
        engine: the store.
        settings: of the loop.
        server: the one that will serve the student.
        held_out: requests as `contest.prepare` returns them.
        embedder: finds examples and compares texts.
        say: takes progress lines.
        write_files: writes the tables, figures and gallery of a decision into a folder, given that
            folder, the metrics, the gallery and a title.
        again: judge the newest checkpoint once more if it was rejected; what did not fit the
            context then is asked again.
    """

    engine: Engine
    settings: LoopSettings
    server: StudentServer
    held_out: pd.DataFrame
    embedder: TextEmbedder
    say: Callable[[str], None]
    write_files: Callable[[Path, Mapping[str, Any], Sequence[Mapping[str, Any]], str], None]
    again: bool = False

    def answers(self, contestant: Contestant, traces: pd.DataFrame) -> pd.DataFrame:
        """A contestant's answers to some of the held-out requests."""
        return answers_of(
            contestant,
            traces,
            engine=self.engine,
            server=self.server,
            say=self.say,
            again=self.again,
        )


def decide_waiting(bench: Bench) -> tuple[list[str], dict[str, str]]:
    """Judge every waiting candidate against the champion; the best one that passes is approved.

    With none waiting the champion answers what traffic has come since.

    Returns:
        The checkpoints that got a decision; by checkpoint id, why another could not be asked now (a
        candidate stays one).
    """
    champion = champion_of(bench.engine)
    gold = bench.held_out[bench.held_out["split"] == "gold"]
    kept = kept_back(gold, spent_gold(bench.engine))
    contests: dict[str, Contest] = {}
    failed: dict[str, str] = {}
    waiting = _waiting(bench, champion)
    for candidate in waiting:
        key = candidate["checkpoint_id"]
        try:
            contests[key] = _contest(bench, candidate, champion, kept)
        except ServerError as error:
            failed[key] = str(error)
    if champion and not waiting:
        try:
            bench.answers(student(champion), bench.held_out)
        except ServerError as error:
            failed[champion["checkpoint_id"]] = str(error)
    _write(bench, contests, spent=set(gold["prompt_id"]) - kept if contests else ())
    return list(contests), failed


def _waiting(bench: Bench, champion: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Candidates in the order of creation; those older than the champion are retired."""
    newest = newest_checkpoint(bench.engine)
    if bench.again and newest and newest["status"] == "rejected":
        set_checkpoint(bench.engine, newest["checkpoint_id"], status="candidate")
    rows = read(bench.engine, CheckpointRow, status="candidate").sort_values("created_at")
    candidates = records(rows)
    if champion is None:
        return candidates
    late = [c for c in candidates if c["created_at"] < champion["created_at"]]
    reason = f"A newer one, {champion['checkpoint_id'][:12]}, was approved before this was judged."
    set_checkpoints(
        bench.engine, {c["checkpoint_id"]: {"status": "retired", "reason": reason} for c in late}
    )
    return [c for c in candidates if c not in late]


def _contest(
    bench: Bench, candidate: _Checkpoint, champion: _Checkpoint | None, kept: Collection[str]
) -> Contest:
    gold = bench.held_out[bench.held_out["split"] == "gold"]
    dataset = records(read(bench.engine, DatasetRow, dataset_id=candidate["dataset_id"]))[0]
    answers = {"candidate": bench.answers(student(candidate), bench.held_out)}
    if champion and len(served := _champion_answers(bench, candidate, champion)):
        answers["champion"] = served
    shots = few_shot_base(candidate, dataset, bench.embedder)
    answers["few-shot base"] = bench.answers(shots, sample(gold))
    asked = sample(gold) if "champion" in answers else gold
    answers["base"] = bench.answers(base_model(candidate), asked)
    until = dataset["counts"].get("trained_until")
    return hold_contest(
        answers,
        bench.held_out,
        bench.embedder,
        target_agreement=bench.settings.target_agreement,
        delta=bench.settings.delta,
        base_was_fitted=base_was_fitted(candidate),
        tiers=tiers_of(bench.settings),
        trained_until=None if until is None else pd.to_datetime(until, utc=True),
        earlier=_earlier_champions(bench, champion) if champion else None,
        kept=kept,
        cut_short=candidate["metrics"].get("training_cut_short") or "",
    )


def _earlier_champions(bench: Bench, champion: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """What those that were champion before have answered of today's gold rows; none is asked."""
    gold = bench.held_out[bench.held_out["split"] == "gold"]
    known = {
        key: read(bench.engine, StudentAnswerRow, checkpoint_id=key)
        for key in champions_so_far(bench.engine)
        if key != champion["checkpoint_id"]
    }
    kept = {
        key: rows[rows["prompt_id"].isin(set(gold["prompt_id"]))] for key, rows in known.items()
    }
    return {key: rows for key, rows in kept.items() if len(rows)}


def _champion_answers(bench: Bench, candidate: _Checkpoint, champion: _Checkpoint) -> pd.DataFrame:
    """The champion's answers; one on another base, which is not served now, has those it gave."""
    if champion["base_dir"] == candidate["base_dir"]:
        return bench.answers(student(champion), bench.held_out)
    known = read(bench.engine, StudentAnswerRow, checkpoint_id=champion["checkpoint_id"])
    known = known[known["prompt_id"].isin(set(bench.held_out["prompt_id"]))]
    bench.say(f"the champion has another base: judged on the {len(known)} answers it gave before")
    return known.reset_index(drop=True) if (known["split"] == "gold").any() else known.iloc[:0]


def _write(bench: Bench, contests: dict[str, Contest], spent: Collection[str]) -> None:
    """Files first, then all decisions in one transaction, with the gold they rest on."""
    rows = records(read(bench.engine, CheckpointRow))
    stored: dict[str, dict[str, Any]] = {row["checkpoint_id"]: row["metrics"] for row in rows}
    judged = stored | {key: stored[key] | contest.metrics for key, contest in contests.items()}
    made_from = {key: stored[key].get("parent_sha256") for key in contests}
    parents = {key: (up, judged[up]) for key, up in made_from.items() if up in judged}
    decisions = pick(contests, parents)
    about = {"judged_at": dt.datetime.now(dt.UTC).isoformat(), "mlflow": UNTOLD}
    for key, contest in contests.items():
        decisions[key]["metrics"] = judged[key] | about
        title = f"{adapter_name(key)}: {decisions[key]['status']}"
        to = evaluation_folder(bench.settings, key)
        bench.write_files(to, decisions[key]["metrics"], contest.gallery, title)
    set_checkpoints(bench.engine, decisions, spent=spent)


def last_decisions(engine: Engine) -> list[dict[str, Any]]:
    """The checkpoints that were judged last, together, in the order of creation."""
    known = records(read(engine, CheckpointRow).sort_values("created_at"))
    judged = [row for row in known if row["metrics"].get("judged_at")]
    newest = max((r["metrics"]["judged_at"] for r in judged), default=None)
    return [r for r in judged if r["metrics"]["judged_at"] == newest]


def deliver(engine: Engine, settings: LoopSettings) -> dict[str, str]:
    """Tell MLflow every decision that it has not been told: figures, files, status, alias.

    Returns:
        By checkpoint id, why MLflow has no record of it yet; the next call tries again.
    """
    missing, ceiling = {}, ceiling_words(frontier_twice(engine).whole)
    champion = (champion_of(engine) or {}).get("checkpoint_id")
    rows = records(read(engine, CheckpointRow))
    for row in [row for row in rows if row["metrics"].get("mlflow")]:
        key = row["checkpoint_id"]
        try:
            _tell(settings, row, is_champion=key == champion, ceiling=ceiling)
        except TrackingDown as error:
            missing[key] = str(error)
        set_checkpoint(engine, key, metrics=row["metrics"] | {"mlflow": missing.get(key, "")})
    return missing


def _tell(settings: LoopSettings, row: dict[str, Any], *, is_champion: bool, ceiling: str) -> None:
    uri, model = settings.tracking_uri, settings.mlflow_target()["registered_model"]
    run, version = row["mlflow_run_id"], row["model_version"]
    if not run or version in (None, "", "None"):
        raise TrackingDown("its training left no MLflow run and model version to add to")
    folder = evaluation_folder(settings, row["checkpoint_id"])
    with few_retries(uri):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        figures = flat_metrics(row["metrics"])
        title = log_evaluation(uri, run, figures, files, decision=row["status"], ceiling=ceiling)
        reason = row["reason"][:1000]
        text = f"{title}\n\n{reason}\n\n{ceiling}"
        describe_version(uri, model, version, text, status=row["status"], reason=reason)
        if is_champion:
            set_alias(uri, model, version)
