"""Is every promise that the documents make kept, in worlds that are not kind?

    OMP_NUM_THREADS=1 python -m benchmarks.promises [--quick]

Each cell is a promise in a world whose truth is known, tried with the project's own functions as
the product calls them: the share of draws in which it is broken (of three promises a mean), with
its exact interval of three standard deviations. A cell is *over* if the whole interval lies above
what is allowed; then the command ends with exit code 1. *Not promised* is what the documents say is
not: it is shown, because somebody will meet it. *Served* is the mean share of the requests that a
promise was made for: who never promises anything breaks nothing. *Before* is the same cell at
commit a39599b, before promises counted by units.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import promise_alarms as alarms
from benchmarks import promise_certificates as certificates
from benchmarks import promise_figures as figures
from benchmarks import promise_gate as gate
from benchmarks import promise_live as live
from benchmarks.promise_worlds import (
    DRIFT,
    INDEPENDENT,
    LOOKS,
    NOISY,
    REPEATS,
    UNITS,
    Cell,
    World,
)
from benchmarks.record import RESULTS, Start, record, table

QUICK = 3
BEFORE = RESULTS / "before" / "promises.json"
# The last world of units is about scores.
ROWS = (INDEPENDENT, *UNITS[:-1])
TRAFFIC = (INDEPENDENT, *UNITS, *REPEATS, NOISY)
REVIEWED = (INDEPENDENT, *UNITS, *REPEATS[:-1], NOISY)


class Promise(NamedTuple):
    """Something that the documents say, and how it is tried."""

    name: str
    measure: Callable[[World, int, np.random.Generator], Cell]
    draws: int
    worlds: Sequence[World]


PROMISES = (
    Promise("certificate of a group", certificates.one_group, 400, (*TRAFFIC, DRIFT)),
    Promise("certificates of six groups", certificates.six_groups, 200, (*TRAFFIC, DRIFT)),
    Promise("certificates over ten weeks", certificates.ever_broken, 100, (LOOKS,)),
    Promise("coverage kept over ten weeks", certificates.coverage_lost, 100, (LOOKS,)),
    Promise("certificate relative to its ceiling", certificates.relative, 200, ROWS),
    Promise("quality threshold", certificates.quality_threshold, 400, (*REVIEWED, DRIFT)),
    Promise("quality thresholds, 20 fits", certificates.quality_fits, 100, (LOOKS,)),
    Promise("gold check, false alarm", alarms.gold_check, 150, ROWS),
    Promise("gold check, 90% not found", alarms.gold_check_blind, 100, ROWS),
    Promise("gate, three points worse passes", gate.worse_accepted, 300, (*ROWS, NOISY)),
    Promise("gate, guards refuse an equal one", gate.guard_refuses, 200, ROWS),
    Promise("gate, points lost by 20 candidates", gate.ladder, 40, (LOOKS,)),
    Promise("mean quality, interval misses", figures.mean_quality, 400, REVIEWED),
    Promise("off-policy, interval misses", figures.off_policy, 150, (*ROWS, NOISY)),
    Promise("off-policy, a good policy refused", figures.off_policy_refuses, 60, (INDEPENDENT,)),
    Promise("ECE, less shown than on new answers", figures.shown_error, 40, (INDEPENDENT,)),
    Promise("novelty, false alarm", alarms.novelty_alarm, 150, (INDEPENDENT, *UNITS[1:4:2])),
    Promise("canary, false stop", live.stopped_wrongly, 200, (*ROWS, LOOKS)),
    Promise("canary, 3 points worse promoted", live.promoted_wrongly, 200, (*ROWS, LOOKS)),
    Promise("canary, 10 points worse promoted", live.promoted_far_worse, 200, ROWS),
    Promise("canary, equal one is late, 8% differ", live.promoted_late, 200, (INDEPENDENT,)),
    Promise("canary, equal one is late, 10% differ", live.promoted_later, 200, (INDEPENDENT,)),
    Promise("held group, late at 10%", alarms.held_late, 300, (*ROWS, DRIFT)),
    Promise("held group, though it disagrees in 4%", alarms.held_wrongly, 600, ROWS),
    Promise("held group, though it disagrees in 5%", alarms.held_at_the_edge, 600, (INDEPENDENT,)),
)
UNITS_OF = dict.fromkeys(("broken", "allowed", "served", "before", "served before"), "share")


def measured(promises: Sequence[Promise], quick: bool = False) -> list[dict[str, Any]]:
    """A row a cell; each has random numbers of its own."""
    lines = []
    for promise in promises:
        for world in promise.worlds:
            rng = np.random.default_rng(zlib.crc32(f"{promise.name}, {world.name}".encode()))
            cell = promise.measure(world, QUICK if quick else promise.draws, rng)
            lines.append(row(promise.name, world.name, cell))
            sys.stdout.write(said(lines[-1]))
            sys.stdout.flush()
    return lines


def row(promise: str, world: str, cell: Cell) -> dict[str, Any]:
    """A cell as it is stored."""
    return {
        "promise": promise,
        "world": world,
        "broken": cell.value,
        "broken low": cell.low,
        "broken high": cell.high,
        "allowed": cell.allowed,
        "draws": cell.draws,
        "verdict": cell.verdict,
        "served": cell.served,
    }


def counted(promises: Sequence[Promise]) -> list[dict[str, Any]]:
    """What each promise is broken by, as the function says that tries it."""
    return [
        {
            "promise": promise.name,
            "counted": " ".join((promise.measure.__doc__ or "").split()),
            "draws in each world": promise.draws,
        }
        for promise in promises
    ]


def said(line: dict[str, Any]) -> str:
    """A cell as a line of the terminal."""
    allowed = "" if line["allowed"] is None else f"{line['allowed']:.1%} allowed"
    interval = f"{line['broken']:6.1%} [{line['broken low']:.1%}, {line['broken high']:.1%}]"
    return f"{line['promise']:<40}{line['world']:<42}{interval:<26}{allowed:<15}{line['verdict']}\n"


def before(file: Path = BEFORE) -> dict[tuple[str, str], dict[str, Any]]:
    """The same cells at the commit of the audit."""
    stored = json.loads(file.read_text())["tables"][0]["rows"]
    return {(line["promise"], line["world"]): line for line in stored}


def main(words: Sequence[str], promises: Sequence[Promise] = PROMISES) -> int:
    """Print and write down the table; 1 if any promise is broken more often than is allowed."""
    start, quick = Start(), "--quick" in words
    lines, known = measured(promises, quick), before()
    over = [line for line in lines if line["verdict"] == "OVER"]
    for line in lines:
        was = known.get((line["promise"], line["world"]), {})
        line |= {"before": was.get("broken"), "served before": was.get("served")}
    worse = [line for line in known.values() if line["verdict"] == "OVER"]
    note = f"{len(over)} of {len(lines)} cells are over what is allowed"
    sys.stdout.write(f"{note}\n")
    if not quick:
        note += f"; before, {len(worse)} of {len(known)} were."
        title = "Promises in worlds with known truth"
        tables = [table(title, lines, UNITS_OF), table("What is counted", counted(promises))]
        record(__file__, __doc__, tables, start, notes=[note])
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
