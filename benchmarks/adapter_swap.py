"""Do users notice when the student is swapped, or swapped back? Ends with status 1 if one fails.

    python -m benchmarks.adapter_swap

Clients ask without pause, each time the student of the policy in force, while students are deployed
(loaded, warmed up, probed), put in force, and every other time rolled back: by the same functions
as the asset ``vllm_deployment`` and ``loop rollback``, on a real vLLM and an SQLite store.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

import pandas as pd
from sqlalchemy import Engine

from benchmarks.fixtures import add_student, student
from benchmarks.record import Start, record, table
from benchmarks.server import World, serving, vllm_release
from loop_pipeline.artifacts import policy_folder
from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.rollout.commands import return_to_previous
from loop_pipeline.rollout.release import in_force, introduce, roles
from loop_pipeline.routing.policy import PolicyBundle, seal
from loop_pipeline.serving.fleet import open_fleet
from loop_pipeline.serving.probes import adapters_of
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.database import open_store

CLIENTS = 8
SWAPS = 8
PAUSE_S = 5.0
TOKENS = 8
SCORE = ScoreWeights(
    kind="logprob_sum",
    mean={"logprob_sum": 0.0},
    scale={"logprob_sum": 1.0},
    coef={"logprob_sum": 1.0},
    intercept=0.0,
    rows=0,
    reason="benchmark",
)


def policy(checkpoint_id: str, previous: PolicyBundle | None) -> PolicyBundle:
    """The smallest policy of a student."""
    return seal(
        parent=previous.sha256 if previous else None,
        recalibration=previous.recalibration + 1 if previous else 1,
        target_agreement=0.95,
        delta=0.05,
        student=student(checkpoint_id),
        frontier={"model": "frontier"},
        versions={},
        subject_hash="",
        evidence_hash=checkpoint_id,
        embedder_version="",
        embedder_path="",
        student_usd_per_request=None,
        score=SCORE,
        groups=[],
    )


@dataclass
class Traffic:
    """Clients that ask whoever is in force, and note how long it took and whether it failed."""

    url: str
    model: str
    rows: list[tuple[float, float, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def client(self) -> None:
        """Ask until it is over."""
        server = StudentServer(self.url, timeout=300, max_tokens=TOKENS)
        number = 0
        while not self.over.is_set():
            number += 1
            asked = [{"role": "user", "content": f"route request {number}"}]
            start, problem = time.monotonic(), ""
            try:
                server.answer(self.model, asked)
            except ServerError as error:
                problem = str(error)
            self.rows.append((start, time.monotonic() - start, problem))


def swap(engine: Engine, settings: LoopSettings, traffic: Traffic, number: int) -> float:
    """Deploy one more student and put it in force. Returns seconds."""
    start = time.monotonic()
    fleet = open_fleet(settings)
    fleet.reconcile(adapters_of(engine, roles(engine).values()))
    now = in_force(engine)
    bundle = policy(chr(ord("a") + number) * 64, now)
    introduce(engine, policy_folder(settings), bundle, staged=False, secret=settings.secret())
    traffic.model = bundle.student["adapter"]
    return time.monotonic() - start


def back(engine: Engine, settings: LoopSettings, traffic: Traffic) -> float:
    """Roll back. Returns seconds."""
    start = time.monotonic()
    bundle = return_to_previous(engine, settings, actor="benchmark", reason="benchmark")
    traffic.model = bundle.student["adapter"]
    return time.monotonic() - start


def run(world: World) -> tuple[pd.DataFrame, Traffic]:
    """Swap under load. Returns a row a change (what, at, seconds) and the traffic."""
    settings = LoopSettings(home=world.home, vllm_url=world.server.url)  # pyright: ignore[reportCallIssue]
    engine = open_store(settings.store_url)
    add_student(engine, "a" * 64, folder=str(world.adapters[0]))
    traffic = Traffic(world.server.url, student("a" * 64)["adapter"])
    swap(engine, settings, traffic, 0)
    clients = [threading.Thread(target=traffic.client) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    changes: list[tuple[str, float, float]] = []
    time.sleep(PAUSE_S)
    for number in range(1, SWAPS + 1):
        folder = str(world.adapters[number % len(world.adapters)])
        add_student(engine, chr(ord("a") + number) * 64, folder=folder)
        at = time.monotonic()
        changes.append(("swap", at, swap(engine, settings, traffic, number)))
        time.sleep(PAUSE_S)
        if number % 2 == 0:
            at = time.monotonic()
            changes.append(("rollback", at, back(engine, settings, traffic)))
            time.sleep(PAUSE_S)
    traffic.over.set()
    for client in clients:
        client.join()
    return pd.DataFrame(changes, columns=pd.Index(["what", "at", "seconds"])), traffic


def main() -> None:
    """Print how long changes took and what the clients saw, and write it down."""
    start = Start()
    with serving(adapters=4) as world:
        changes, traffic = run(world)
    asked = pd.DataFrame(traffic.rows, columns=pd.Index(["at", "seconds", "problem"]))
    end = asked["at"] + asked["seconds"]
    asked["when"] = "steady"
    for change in changes.itertuples():
        touched = (end >= change.at) & (asked["at"] <= change.at + change.seconds)
        asked.loc[touched, "when"] = f"during a {change.what}"
    failed = asked[asked["problem"] != ""]
    took = changes.groupby("what")["seconds"].describe()[["count", "50%", "min", "max"]]
    took.columns = ["n", "median", "least", "most"]
    seen = asked.groupby("when")["seconds"].quantile([0.5, 0.99, 1.0]).unstack() * 1000
    seen.columns = ["p50", "p99", "most"]
    seen["requests"] = asked["when"].value_counts()
    seen["failed"] = failed["when"].value_counts().reindex(seen.index, fill_value=0)
    sys.stdout.write(f"seconds a change took\n{took.round(2).to_string()}\n\n")
    sys.stdout.write(f"milliseconds that {CLIENTS} clients saw\n{seen.round(1).to_string()}\n\n")
    sys.stdout.write(f"{len(asked)} requests, {len(failed)} failed\n")
    tables = [
        table("A change", took.reset_index(), dict.fromkeys(("median", "least", "most"), "s")),
        table(
            f"A request of one of {CLIENTS} clients",
            seen.reset_index(),
            dict.fromkeys(("p50", "p99", "most"), "ms"),
        ),
        table("All", [{"requests": len(asked), "failed": len(failed)}]),
    ]
    record(__file__, __doc__, tables, start, notes=[vllm_release()])
    if len(failed):
        sys.stdout.write(f"{failed['problem'].iloc[0]}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
