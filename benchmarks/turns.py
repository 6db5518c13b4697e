"""What does a whole turn of the loop come to, and how much does it vary?

    python -m benchmarks.turns demo demo demo demo+2

Each word is a turn in a folder of its own: `demo` is the simulated support desk, as `make demo`
starts it; `clinc150`, `banking77`, `headlines` and `nlupp` are the public sets, whose gold labels
stand in for the frontier (one that never contradicts itself: the best case). `+2` runs two busy
processes beside it. The student is the profile `tiny`, made from scratch. Gold requests were seen
neither by the student nor by the certificate. No method can serve more than the agreement divided
by the target (arXiv 2606.29054): that share stands beside what was certified.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.report.numbers import LoopNumbers

SHARES = (
    "agreement on gold",
    "certified coverage",
    "best possible",
    "of gold served",
    "of these agree",
)
BUSY = "while True: pass"


def turn(word: str) -> dict[str, Any]:
    """One whole turn, and what its report says."""
    name, _, busy = word.partition("+")
    command = [name] if name == "demo" else ["replay", name]
    with tempfile.TemporaryDirectory() as home:
        beside = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(int(busy or 0))]
        start = time.monotonic()
        try:
            subprocess.run(
                [sys.executable, "-m", "loop_pipeline.cli.main", *command],
                env=os.environ | {"LOOP_HOME": home},
                check=True,
            )
        finally:
            for process in beside:
                process.kill()
        seconds = time.monotonic() - start
        path = Path(home) / "artifacts" / "report" / "numbers.json"
        numbers = LoopNumbers.model_validate_json(path.read_text(encoding="utf-8"))
    row = {"turn": name, "busy processes beside it": len(beside), "time": seconds}
    return row | {"load": round(os.getloadavg()[1], 1)} | figures(numbers)


def figures(numbers: LoopNumbers) -> dict[str, Any]:
    """The headline figures of a report; null where it has none."""
    agreement, coverage = numbers.agreement, numbers.coverage
    found: dict[str, Any] = {"requests": numbers.traces}
    if agreement:
        found |= {
            "agreement on gold": agreement.value,
            "agreement on gold low": agreement.low,
            "agreement on gold high": agreement.high,
            "n": agreement.n,
        }
    if coverage:
        found |= {
            "certified coverage": coverage.certified,
            "best possible": min(1.0, agreement.value / coverage.target) if agreement else None,
            "of gold served": coverage.achieved,
            "of these agree": coverage.achieved_agreement,
        }
    return found


def main(*words: str) -> None:
    """Print a row a turn, and write them down."""
    start = Start()
    units = dict.fromkeys(SHARES, "share") | {"time": "s"}
    lines: list[dict[str, Any]] = []
    for word in words or ("demo",):
        lines.append(turn(word))
        # After each: a series that is interrupted keeps what it measured.
        tables = [table("Whole turns, one after another", lines, units)]
        record(__file__, __doc__, tables, start, packages=["torch", "transformers", "peft", "trl"])
    sys.stdout.write(pd.DataFrame(lines).round(3).to_string(index=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
