"""The ``loop`` command."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from loop_pipeline.cli.common import open_settings_and_store
from loop_pipeline.cli.doctor import doctor
from loop_pipeline.cli.figures.costs import costs
from loop_pipeline.cli.figures.groups import groups
from loop_pipeline.cli.gateway import gateway
from loop_pipeline.cli.imports import import_traces, ship
from loop_pipeline.cli.keys import keys
from loop_pipeline.cli.policy import policy
from loop_pipeline.cli.reviews import review
from loop_pipeline.cli.rollout import history, rollback, rollout
from loop_pipeline.cli.status import status
from loop_pipeline.cli.up import ui, up
from loop_pipeline.masking import mask_secrets, masked
from loop_pipeline.settings import load_settings

LIVE = typer.Option("--live", help="Then send requests it has never seen through the gateway.")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(doctor)
app.command()(up)
app.command()(status)
app.command()(ui)
app.command()(gateway)
app.command()(ship)
app.add_typer(review, name="review")
app.add_typer(rollout, name="rollout")
app.command()(rollback)
app.command()(history)
app.add_typer(policy, name="policy")
app.add_typer(groups, name="groups")
app.add_typer(keys, name="keys")
app.add_typer(costs, name="costs")


app.command("import")(import_traces)


@app.command()
def demo(live: Annotated[bool, LIVE] = False) -> None:
    """Turn the loop once on simulated traffic: every model and server is real."""
    from loop_pipeline.demo import runs

    home = _home("demo")
    _check_environments()
    runs.demo(home, live=live)


@app.command()
def replay(
    name: Annotated[str, typer.Argument(help="headlines, clinc150, banking77 or nlupp")],
    live: Annotated[bool, LIVE] = False,
) -> None:
    """Turn the loop once on a public data set."""
    from loop_pipeline.demo import runs

    # Of a home that has seen all requests none would be new.
    runs.replay(name, _home(f"replay-{name}{'-live' if live else ''}"), live=live)


@app.command()
def serve() -> None:
    """Serve the base model with vLLM, restarted if it dies; adapters are loaded by the loop."""
    from loop_pipeline.serving.server_command import check_interpreter
    from loop_pipeline.serving.supervisor import serve as keep_serving

    settings = load_settings()
    check_interpreter(settings.serve_python)
    recipe = settings.recipe()
    where = masked(settings.vllm_urls[0])
    typer.echo(f"serving at {where}; log: {settings.vllm_log}; Ctrl-C ends it")
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
    typer.echo(judge_sample(engine, found, rate=settings.judge_rate, prices=settings.prices))


@app.command()
def report() -> None:
    """Print the newest report and where to look further."""
    from loop_pipeline.report.summary import show

    show(load_settings())


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


def _check_environments() -> None:
    """A whole turn trains and serves: what it takes for that is looked for before it begins."""
    from loop_pipeline.serving.server_command import check_interpreter
    from loop_pipeline.training.libraries import check_training_libraries

    settings = load_settings()
    check_training_libraries(settings.train_python)
    check_interpreter(settings.serve_python)


def _home(name: str) -> Path:
    home = Path(os.environ.setdefault("LOOP_HOME", f".loop/{name}"))
    home.mkdir(parents=True, exist_ok=True)
    return home


def main() -> None:
    """Run a command; what a person can mend is one line, anything else keeps its traceback.

    Whatever went wrong, no password or key is part of what is printed.
    """
    try:
        app()
    except DBAPIError as error:
        said = f"the database at LOOP_DATABASE_URL does not work: {error.orig}"
        sys.exit(mask_secrets(f"loop: {said}"))
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(mask_secrets(f"loop: {error}"))
    except SystemExit as end:
        sys.exit(mask_secrets(end.code) if isinstance(end.code, str) else end.code)
    except Exception:  # noqa: BLE001  it is passed on, by hand
        sys.exit(mask_secrets(traceback.format_exc().rstrip()))


if __name__ == "__main__":
    main()
