"""The ``loop`` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from loop_pipeline import cli_groups
from loop_pipeline.cli_doctor import doctor
from loop_pipeline.cli_policy import policy
from loop_pipeline.settings import LoopSettings, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cli_groups.app, name="groups")
app.add_typer(policy, name="policy")
app.command()(doctor)


@app.command("import")
def import_traces(files: list[Path]) -> None:
    """Import JSON-lines files of traces and feedback. Twice the same file: the same rows."""
    from loop_pipeline.store.database import open_store
    from loop_pipeline.traces.ingest import import_file

    engine = open_store(load_settings().store_url)
    for path in files:
        typer.echo(f"{path}: {import_file(engine, path)}")


@app.command()
def demo() -> None:
    """Turn the loop once on simulated traffic: every model and server is real."""
    from loop_pipeline.replay import runs

    runs.demo(_home("demo"))


@app.command()
def replay(
    name: Annotated[str, typer.Argument(help="headlines, clinc150, banking77 or nlupp")],
) -> None:
    """Turn the loop once on a public data set."""
    from loop_pipeline.replay import runs

    runs.replay(name, _home(f"replay-{name}"))


@app.command()
def serve() -> None:
    """Serve the base model with vLLM, restarted if it dies; adapters are loaded by the loop."""
    from loop_pipeline.serving.supervisor import serve as keep_serving

    settings = load_settings()
    recipe = settings.recipe()
    typer.echo(f"serving at {settings.vllm_urls[0]}; log: {settings.vllm_log}; Ctrl-C ends it")
    keep_serving(
        settings.base_of(recipe),
        settings.vllm_urls[0],
        settings.serve_python,
        settings.vllm_log,
        max_lora_rank=recipe.lora_r,
        max_model_len=recipe.max_length + settings.max_answer_tokens,
    )


@app.command("fit-detector")
def fit_detector(out: Path) -> None:
    """Fit the hallucination score of texts to your reviews; name the file in LOOP_DETECTOR_FILE."""
    from loop_pipeline.labels.hallucination.wording_weights import detector_from_reviews

    detector = detector_from_reviews(open_settings_and_store()[1])
    out.write_text(detector.model_dump_json(indent=1) + "\n", encoding="utf-8")
    low, high = detector.interval
    typer.echo(
        f"{out}: version {detector.version}, {detector.n} labels, {detector.share:.0%} bad; "
        f"cross-validated AUC {detector.auc:.3f}, balanced accuracy "
        f"{detector.balanced_accuracy:.1%} [{low:.1%}, {high:.1%}]"
    )


@app.command()
def judge() -> None:
    """Ask the model at LOOP_JUDGE_URL about a sample of texts; its verdicts are signals."""
    from loop_pipeline.labels.hallucination.llm_judge import judge_of, judge_sample

    settings, engine = open_settings_and_store()
    if (found := judge_of(settings)) is None:
        raise ValueError("no judge: set LOOP_JUDGE_URL and LOOP_JUDGE_MODEL")
    typer.echo(judge_sample(engine, found, rate=settings.judge_rate))


review = typer.Typer(help="Review answers: the plan, MLflow's review desk, spreadsheets.")
app.add_typer(review, name="review")


@review.callback(invoke_without_command=True)
def review_plan(context: typer.Context) -> None:
    """Say what waits for review, and how many reviews which promise takes."""
    if context.invoked_subcommand is None:
        review_status()


@review.command("status")
def review_status() -> None:
    """Say what waits for review, and how many reviews which promise takes."""
    from loop_pipeline.labels.reviews.queue import describe

    settings, engine = open_settings_and_store()
    for line in describe(engine, settings):
        typer.echo(line)


@review.command("push")
def review_push() -> None:
    """Lay what waits for review out in MLflow, after fetching what was said there."""
    from loop_pipeline.labels.reviews.mlflow_push import push_queue, review_tracking

    review_pull()
    settings, engine = open_settings_and_store()
    new, where = push_queue(engine, review_tracking(settings.mlflow_target()))
    typer.echo(f"{new} new items on the review desk: {where}")


@review.command("pull")
def review_pull() -> None:
    """Fetch what reviewers said in MLflow."""
    from loop_pipeline.labels.reviews.mlflow_pull import pull_verdicts
    from loop_pipeline.labels.reviews.mlflow_push import review_tracking
    from loop_pipeline.labels.reviews.queue import take_reviews_in

    settings, engine = open_settings_and_store()
    done = pull_verdicts(engine, review_tracking(settings.mlflow_target()))
    typer.echo(f"from the review desk: {done.feedback_only()}")
    for warning in take_reviews_in(engine):
        typer.echo(warning)


@review.command("export")
def review_export(
    file: Annotated[Path, typer.Argument(help="Ends in .csv or .jsonl.")],
    limit: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Only what this person has not reviewed.")
    ] = None,
) -> None:
    """Write what waits for review as a sheet to fill in."""
    from loop_pipeline.labels.reviews.queue import open_items
    from loop_pipeline.labels.reviews.spreadsheets import write_sheet

    items = open_items(open_settings_and_store()[1], reviewer=reviewer, limit=limit)
    write_sheet(items, file)
    typer.echo(f"{len(items)} items in {file}: fill in `good` (yes or no)")


@review.command("import")
def review_import(
    file: Path,
    reviewer: Annotated[
        str, typer.Option(help="Whose verdicts they are, where the sheet names nobody.")
    ],
) -> None:
    """Take a filled-in sheet in. Twice the same sheet: the same rows."""
    from loop_pipeline.labels.reviews.queue import take_reviews_in
    from loop_pipeline.labels.reviews.spreadsheets import read_sheet

    engine = open_settings_and_store()[1]
    typer.echo(f"{file}: {read_sheet(engine, file, reviewer=reviewer)}")
    for warning in take_reviews_in(engine):
        typer.echo(warning)


rollout = typer.Typer(no_args_is_help=True, help="Watch, advance or end a canary.")
app.add_typer(rollout, name="rollout")
Why = Annotated[str, typer.Option(help="Goes into the history.")]


@rollout.command("status")
def rollout_status() -> None:
    """Say who is on trial, in which stage, and what the evidence says."""
    from loop_pipeline.rollout.commands import describe

    typer.echo(describe(open_settings_and_store()[1]))


@rollout.command("advance")
def rollout_advance(reason: Why = "asked for") -> None:
    """Take the canary one stage on; after the last it is the champion."""
    from loop_pipeline.rollout.commands import advance_rollout

    settings, engine = open_settings_and_store()
    typer.echo(advance_rollout(engine, settings, actor="loop rollout advance", reason=reason))


@rollout.command("stop")
def rollout_stop(reason: Why = "asked for") -> None:
    """End the canary: the champion's policy as it was before."""
    from loop_pipeline.rollout.commands import stop_rollout

    settings, engine = open_settings_and_store()
    typer.echo(stop_rollout(engine, settings, actor="loop rollout stop", reason=reason))


@rollout.command("sync")
def rollout_sync() -> None:
    """Let MLflow's alias `champion` follow the policy in force."""
    from loop_pipeline.rollout.commands import tell

    settings, engine = open_settings_and_store()
    typer.echo(tell(engine, settings).strip() or "MLflow names the champion that serves")


@app.command()
def rollback(
    reason: Why = "asked for",
    force: Annotated[
        bool, typer.Option(help="Also if a replica does not serve the earlier student.")
    ] = False,
) -> None:
    """Return to the policy before this one: student, thresholds and prompts in one step."""
    from loop_pipeline.rollout.commands import return_to_previous, tell

    settings, engine = open_settings_and_store()
    bundle = return_to_previous(engine, settings, actor="loop rollback", reason=reason, force=force)
    typer.echo(f"{bundle.student['adapter']} serves again by policy {bundle.sha256[:12]}")
    if problem := tell(engine, settings):
        typer.echo(problem.strip())


@app.command()
def history() -> None:
    """List who served what, since when, by whose decision and why."""
    from loop_pipeline.rollout.commands import history as lines

    for line in lines(open_settings_and_store()[1]):
        typer.echo(line)


@app.command()
def report() -> None:
    """Print the newest report and where to look further."""
    from loop_pipeline.replay import runs

    runs.show(load_settings())


@app.command()
def follow(prompt_id: str) -> None:
    """Print everything that is known about one request, from its trace to what it teaches."""
    from loop_pipeline.store.database import follow as rows_of

    found = rows_of(open_settings_and_store()[1], prompt_id)
    if not found:
        raise ValueError(f"no table knows the prompt id {prompt_id!r}")
    for table, rows in found.items():
        for row in rows:
            typer.secho(table, bold=True)
            for name, value in row.items():
                if name != "prompt_id" and value is not None:
                    typer.echo(f"  {name:16} {_short(value)}")


def _short(value: Any, most: int = 300) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


@app.command()
def status() -> None:
    """Count what is in the store."""
    from loop_pipeline.store.database import count, open_store
    from loop_pipeline.store.tables import Base

    engine = open_store(load_settings().store_url)
    for mapper in sorted(Base.registry.mappers, key=lambda m: m.class_.__tablename__):
        table: Any = mapper.class_
        typer.echo(f"{table.__tablename__:22} {count(engine, table):>10,}")


def open_settings_and_store() -> tuple[LoopSettings, Engine]:
    """The settings, and the store they name."""
    from loop_pipeline.store.database import open_store

    settings = load_settings()
    return settings, open_store(settings.store_url)


def _home(name: str) -> Path:
    home = Path(os.environ.setdefault("LOOP_HOME", f".loop/{name}"))
    home.mkdir(parents=True, exist_ok=True)
    return home


def main() -> None:
    """Run a command; what a person can mend is one line, anything else keeps its traceback."""
    try:
        app()
    except DBAPIError as error:
        sys.exit(f"loop: the database at LOOP_DATABASE_URL does not work: {error.orig}")
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"loop: {error}")
