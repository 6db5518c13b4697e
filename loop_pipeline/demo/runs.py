"""The runs a newcomer starts: the simulated support desk, and the public sets.

Not here: how one turn is run (``turn.py``).
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from loop_pipeline.demo.live_replay import live_stretch, load_unseen
from loop_pipeline.demo.public_sets import DAYS, FIRST_DAY, write_traffic
from loop_pipeline.demo.simulated_traffic import answer_reviews, simulate
from loop_pipeline.demo.size import SIZES, size_for
from loop_pipeline.demo.turn import Turn
from loop_pipeline.processes.first_request import first_request
from loop_pipeline.report.summary import show
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import ReviewItemRow
from loop_pipeline.whole_file import write_whole

TRAFFIC = "traffic.jsonl"
UNSEEN = "unseen.jsonl"
# New requests of the simulated desk: more than a minute takes.
LIVE_REQUESTS = 4_000
LIVE_SEED = 8
LIVE_S = 60.0
# The student of these runs has two million parameters and needs no GPU: two CPU cores, assumed.
SERVER_HOURLY_USD = 0.10
# The sets have labels, tags and short summaries.
MAX_ANSWER_TOKENS = 64
# Enough reviews for a threshold with a bound within the three weeks of the simulated traffic.
REVIEW_RATE = 0.08


def demo(home: Path, *, live: bool = False) -> None:
    """One whole turn on simulated traffic; a second call reuses what is there.

    Args:
        home: where everything goes.
        live: a minute of new requests goes through the gateway afterwards.
    """
    inbox = _inbox(home)
    print("measuring how fast a student is trained on this machine now")
    size, said = size_for(inbox / "size.json", load_settings().train_python)
    print(said)
    if not (inbox / "truth.jsonl").exists():
        print("making simulated support-desk traffic with known truth")
        simulate(inbox / TRAFFIC, traces=size.requests)
    notes = [
        "Traffic, feedback, prices and reviewers are simulated; every model and server is real."
    ]
    notes += [said] if size != SIZES[0] else []
    # As many reviews whatever the size: without them no threshold can be promised, and only what
    # people said is learned from (2,076 rows of 6,000 requests, of 12,000 it is 7,713).
    rate = REVIEW_RATE * SIZES[0].requests / size.requests
    _configure(home, "Simulated support desk", notes, rate)
    turn = Turn(load_settings())
    turn.import_traces(inbox / TRAFFIC)
    turn.stage("flagging every answer and collecting its signals")
    turn.run("describe_traces", days=True)
    turn.stage("drawing reviews; simulated reviewers answer them")
    turn.run("draw_reviews")
    drawn = read(turn.engine, ReviewItemRow, status=["open", "second"])["prompt_id"].tolist()
    reviews = inbox / "reviews.jsonl"
    lines = answer_reviews(inbox / "truth.jsonl", drawn, seed=7)
    write_whole(reviews, "".join(json.dumps(line) + "\n" for line in lines))
    turn.import_traces(reviews)
    new = inbox / UNSEEN
    if live and not new.exists():
        simulate(new, traces=LIVE_REQUESTS, seed=LIVE_SEED)
    turn_loop(turn, live=new if live else None, live_s=LIVE_S, base_tokens=size.base_tokens)
    show(turn.settings)
    print("live      .venv/bin/loop up --demo      (in another terminal, until Ctrl-C; then try)\n")
    print(first_request(f"http://{turn.settings.gateway_host}:{turn.settings.gateway_port}"))


def replay(name: str, home: Path, *, live: bool = False) -> None:
    """One whole turn on a public set.

    Args:
        name: of the set.
        home: where everything goes.
        live: a fifth of the requests is held back, and goes through the gateway afterwards.
    """
    inbox = _inbox(home)
    unseen = inbox / UNSEEN if live else None
    # Live requests come now: those before them are dated to the days before.
    first = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=DAYS) if live else FIRST_DAY
    data = load_settings().bench_data
    facts = write_traffic(name, data, inbox / TRAFFIC, unseen=unseen, first_day=first)
    _configure(home, f"Replay of {name}", facts["notes"])
    turn = Turn(load_settings())
    for note in facts["notes"]:
        turn.say(f"note: {note}")
    turn.import_traces(inbox / TRAFFIC)
    turn.stage("flagging every answer and collecting its signals")
    turn.run("describe_traces", days=True)
    turn_loop(turn, live=unseen)
    show(turn.settings)


def turn_loop(
    turn: Turn, *, live: Path | None = None, live_s: float | None = None, **recipe_fields: float
) -> None:
    """Everything between described traces and the report, by the jobs a user would run.

    Args:
        turn: the store and where to report progress.
        live: requests with known answers that then go through the gateway; None: none do.
        live_s: none of them is begun after so many seconds.
        recipe_fields: fields of the training recipe that differ from the profile's.
    """
    settings = turn.settings
    turn.stage("fitting the quality score and its threshold")
    turn.run("refresh_quality")
    turn.stage("scoring and labelling every day of traffic")
    turn.run("score_traces", days=True)
    turn.stage("grouping the requests")
    turn.run("regroup")
    turn.stage("freezing the training set; pre-training the base if there is none yet")
    recipe = settings.recipe(**recipe_fields)
    fields = {"config": recipe.model_dump()}
    turn.run("make_base", {"ops": {"base_model": fields}})
    with turn.serving(recipe):
        turn.stage("QLoRA, evaluation, gate, deployment, routing policy, report")
        made = ("training_set", "base_model")  # by the job before: nothing came in between
        turn.run("retrain", {"ops": {"qlora_checkpoint": fields}}, without=made)
        if live:
            frontier = [sys.executable, "-m", "loop_pipeline.demo.simulated_frontier"]
            frontier += ["--recorded", str(live), "--port"]
            live_stretch(turn, load_unseen(live), frontier, seconds=live_s)
    turn.stage("done")


def _inbox(home: Path) -> Path:
    inbox = home / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    return inbox


def _configure(home: Path, title: str, notes: list[str], review_rate: float = REVIEW_RATE) -> None:
    values: dict[str, Any] = {
        "title": title,
        "notes": notes,
        "server_hourly_usd": SERVER_HOURLY_USD,
        "review_rate": review_rate,
        "max_answer_tokens": MAX_ANSWER_TOKENS,
        # The times of these requests are made up: they do not age.
        "certificate_days": 36_500,
        # No live traffic would ever let a canary advance.
        "rollout": "direct",
    }
    write_whole(home / "loop.yaml", yaml.safe_dump(values, sort_keys=False))
