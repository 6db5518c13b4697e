"""Simulated traffic of a support desk, with a truth that the loop never reads.

Not here: what customers ask (``simulated_desk.py``).

Everything random comes from one seed: the same arguments write the same bytes.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loop_pipeline.costs.token_price import Price, Tokens
from loop_pipeline.demo import phrases
from loop_pipeline.demo.simulated_desk import (
    HOUR_WEIGHTS,
    TASKS,
    Request,
    Visit,
    some_date,
    visits,
    write_request,
)
from loop_pipeline.whole_file import write_whole

MODEL = "claude-opus-5"
# As listed in September 2026; simulated traffic stays the same whatever a list says.
MODEL_PRICE = Price(input=5.0, output=25.0, cached=0.5)
REPEATED = 0.04
# Chances that the frontier is wrong, and how. Labels and tags go wrong where the request is hard:
# two concerns, more than one meaning, misspelt.
WRONG = 0.005
WRONG_IF_HARD = 0.12
OUTSIDE = 0.003
HALLUCINATED = 0.10
OUT_OF_SET = ("other", "general_question", "spam")
REACTIONS = {  # to a good answer and to a bad one; chances of 1
    True: {"accepted": 0.93, "thumb_up": 0.03, "regenerated": 0.03, "thumb_down": 0.01},
    False: {"accepted": 0.35, "modified": 0.35, "rejected": 0.2, "regenerated": 0.1},
}
SEEN = {True: 0.5, False: 0.8}  # chance that somebody reacts at all
LATE = 0.15
EDIT_SAYS_MORE = 0.15
REVIEWERS = ("reviewer-1", "reviewer-2")
REVIEWER_RELIABILITY = 0.995
REVIEWED_BY_BOTH = 0.2


def simulate(
    out: Path,
    *,
    traces: int = 12_000,
    days: int = 21,
    first_day: dt.date = dt.date(2026, 9, 1),
    seed: int = 7,
    price: Price = MODEL_PRICE,
) -> dict[str, int]:
    """Write simulated traffic in the import format, and ``truth.jsonl`` beside it.

    The truth file is written last: where it is, the traffic is whole.

    Args:
        out: file of the traffic; replaced if it is there.
        traces: number of requests.
        days: number of days they are spread over, by weekday and hour.
        first_day: UTC day of the first.
        seed: of everything random.
        price: what the frontier bills.

    Returns:
        Counts: traces, repeated, wrong, hallucinated, feedback.

    Raises:
        ValueError: fewer than one trace or day.
    """
    if traces < 1 or days < 1:
        raise ValueError(f"traces and days must be at least 1, given {traces} and {days}")
    whole = out.with_name("truth.jsonl")
    whole.unlink(missing_ok=True)
    rng = random.Random(seed)
    past: list[Request] = []
    truth: list[str] = []
    counts: Counter[str] = Counter()
    with out.open("w", encoding="utf-8", newline="\n") as lines:
        for number, visit in enumerate(visits(rng, traces, days, first_day)):
            repeated = bool(past) and rng.random() < REPEATED
            past.append(rng.choice(past) if repeated else write_request(rng, visit))
            output, planted = _answer(rng, past[-1])
            right = output == past[-1].truth
            line: dict[str, Any] = {"prompt_id": f"sim-{seed}-{number:06d}", "simulated": True}
            line |= _trace(rng, visit, past[-1], output, price)
            line["feedback"] = _feedback(rng, visit, past[-1], right)
            lines.write(json.dumps(line) + "\n")
            fact = {"prompt_id": line["prompt_id"], "ts": line["ts"], "truth": past[-1].truth}
            fact["hard"] = past[-1].hard
            truth.append(json.dumps(fact | {"right": right, "hallucinated": planted}) + "\n")
            counts.update(traces=1, repeated=repeated, wrong=not right, hallucinated=planted)
            counts.update(feedback=len(line["feedback"]))
    write_whole(whole, "".join(truth))
    return dict(counts)


def answer_reviews(
    truth_path: Path, prompt_ids: Sequence[str], seed: int = 7
) -> list[dict[str, Any]]:
    """Verdicts of two simulated reviewers, right in 199 of 200 cases.

    The verdict on a trace depends on the seed and its id only, not on what else is asked.

    Args:
        truth_path: the ``truth.jsonl`` of ``simulate``.
        prompt_ids: traces to review.
        seed: of the reviewers.

    Returns:
        Feedback lines of kind ``review`` in the order of ``prompt_ids``, now and then one of
        either reviewer; most verdicts on answers that are bad bring the right one as an edit.

    Raises:
        ValueError: a prompt id is not in the truth file; names it.
    """
    with truth_path.open(encoding="utf-8") as lines:
        truth = {fact["prompt_id"]: fact for fact in map(json.loads, lines)}
    reviews = []
    for prompt_id in prompt_ids:
        if prompt_id not in truth:
            raise ValueError(f"{prompt_id} is not in {truth_path}: it belongs to other traffic")
        rng = random.Random(f"review {seed} {prompt_id}")
        voices = 2 if rng.random() < REVIEWED_BY_BOTH else 1
        actors = rng.sample(REVIEWERS, voices)
        reviews += [_review(rng, truth[prompt_id], actor) for actor in actors]
    return reviews


def _review(rng: random.Random, fact: dict[str, Any], actor: str) -> dict[str, Any]:
    mistaken = rng.random() >= REVIEWER_RELIABILITY
    moment = dt.datetime.fromisoformat(fact["ts"]) + dt.timedelta(minutes=rng.randrange(3000))
    review = {
        "prompt_id": fact["prompt_id"],
        "kind": "review",
        "value": float(fact["right"] != mistaken),
        "actor": actor,
        "ts": moment.isoformat(),
    }
    if not fact["right"] and not mistaken and rng.random() < 0.8:
        review["edited_output"] = fact["truth"]
    return review


def _answer(rng: random.Random, request: Request) -> tuple[str, bool]:
    """What the frontier answers, and whether a hallucination was planted in it."""
    luck, truth = rng.random(), request.truth
    if request.task == "summarise":
        return (_hallucinate(rng, request), True) if luck < HALLUCINATED else (truth, False)
    if luck < OUTSIDE:
        return rng.choice(OUT_OF_SET), False
    if luck - OUTSIDE >= (WRONG_IF_HARD if request.hard else WRONG):
        return truth, False
    if request.task == "classify":
        return rng.choice([label for label in phrases.LABELS if label != truth]), False
    # One tag too many or too few.
    tags = {rng.choice(phrases.TAGS)} ^ (set() if truth == "none" else set(truth.split(", ")))
    return ", ".join(sorted(tags)) or "none", False


def _hallucinate(rng: random.Random, request: Request) -> str:
    """The true summary with an order, a product, a date or a promise that nobody wrote."""
    truth, ways = request.truth, []
    orders = [word.strip(".") for word in truth.split() if word.strip(".").isdigit()]
    products = [product for product in phrases.PRODUCTS if f"the {product}" in truth]
    text = request.text.casefold()
    if orders:
        ways.append((orders[0], _unsaid(rng, [str(n) for n in range(10000, 100000, 7)], text)))
    if products:
        ways.append((products[0], _unsaid(rng, phrases.PRODUCTS, text)))
    dates = [some_date(rng) for _ in range(20)]
    ways.append((truth, f"{truth[:-1]} by {_unsaid(rng, dates, text)}."))
    ways.append((truth, truth + rng.choice(phrases.PROMISES)))
    return truth.replace(*rng.choice(ways))


def _unsaid(rng: random.Random, choices: Sequence[str], text: str) -> str:
    return rng.choice([choice for choice in choices if choice.casefold() not in text])


def _trace(
    rng: random.Random, visit: Visit, request: Request, output: str, price: Price
) -> dict[str, Any]:
    _, system, contract = TASKS[request.task]
    # Four characters a token, and what a chat template adds.
    tokens_in, tokens_out = (len(system) + len(request.text)) // 4 + 8, len(output) // 4 + 1
    busy = HOUR_WEIGHTS[visit.ts.hour] / max(HOUR_WEIGHTS)
    latency = (450 + 14 * tokens_out) * (1 + 0.5 * busy) * rng.lognormvariate(0, 0.35)
    return {
        "ts": visit.ts.isoformat(),
        "app": "support-desk",
        "user": visit.user,
        "conversation_id": visit.conversation,
        "task": request.task,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": request.text},
        ],
        "contract": contract,
        "output": output,
        "producer": "frontier",
        "model": MODEL,
        "tokens_in": tokens_in,
        "tokens_cached": 0,
        "tokens_out": tokens_out,
        "cost_usd": round(price.cost(Tokens(tokens_in, tokens_out)) or 0.0, 9),
        "latency_ms": round(latency, 1),
        "finish_reason": "stop",
    }


def _feedback(
    rng: random.Random, visit: Visit, request: Request, right: bool
) -> list[dict[str, Any]]:
    """What the customer's agent does with the answer; mostly at once, now and then days later."""
    if rng.random() >= SEEN[right]:
        return []
    chances = REACTIONS[right]
    kind = rng.choices(list(chances), list(chances.values()))[0]
    wait = rng.uniform(3600, 72 * 3600) if rng.random() < LATE else rng.uniform(5, 1800)
    moment = visit.ts + dt.timedelta(seconds=int(wait))
    reaction = {"kind": kind, "actor": visit.user, "ts": moment.isoformat()}
    if kind == "modified":
        more = " Please call back." if request.task == "summarise" else " (corrected)"
        reaction["edited_output"] = request.truth + more * (rng.random() < EDIT_SAYS_MORE)
    thumb = {"accepted": "thumb_up", "rejected": "thumb_down"}.get(kind)
    if thumb and rng.random() < 0.1:
        return [reaction, {"kind": thumb, "actor": visit.user, "ts": moment.isoformat()}]
    return [reaction]
