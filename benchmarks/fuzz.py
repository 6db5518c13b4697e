"""Does any damaged input break a parser, cost a sound neighbour, or vanish without a word?

    python -m benchmarks.fuzz [POSTGRESQL_URL]

100,000 inputs, each made from its number alone: the records of the cases, sheets, feedback,
requests of four wire formats, policies, lists of adapters and training sets, with bytes flipped,
cut, spliced, repeated and recoded, types swapped, keys dropped and doubled, numbers too large and
nesting too deep. 60% are lines among sound neighbours in one file. Broken: a traceback. Lost: a
sound neighbour that is not stored, or a line that is neither stored nor in quarantine with a
reason. Every tenth file is imported into PostgreSQL too, where the rows have to be the same, and
its quarantine is tried again, which may change nothing. The URL names an empty database. If
anything is broken or lost, nothing is written down.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.store.database import open_store
from loop_pipeline_tests.faults.fuzz_targets import Store
from loop_pipeline_tests.faults.test_fuzz import BLOCK, CASES, DAILY, NIGHTLY, SAMPLED, Fuzz


def main() -> None:
    """Print a line a kind of input, and write them down."""
    begun = Start()
    logging.disable(logging.WARNING)
    if not CASES.is_dir():
        sys.exit(f"no cases in {CASES}: name their folder in LOOP_CASES")
    taken: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        other = None
        for url in sys.argv[1:2]:
            Path(folder, "other").mkdir()
            other = Store(open_store(url), Path(folder, "other"))
        fuzz = Fuzz(Path(folder), other)
        for first in range(DAILY, DAILY + NIGHTLY, BLOCK):
            try:
                for name, number in fuzz.block(first):
                    taken[name] += number
            except AssertionError as error:
                broken[str(error)] += 1
                sys.stdout.write(f"{error}: {error.__cause__!r}\n")
    if broken:
        sys.exit(f"{broken.total()} failures of {taken.total()} inputs")
    rows: list[dict[str, Any]] = [
        {"inputs of": name, "kind": "ours", "tried": number, "broken": 0, "lost": 0}
        for name, number in (*taken.items(), ("all", taken.total()))
    ]
    sys.stdout.write(pd.DataFrame(rows).to_string(index=False) + "\n")
    files = NIGHTLY // BLOCK // SAMPLED
    where = f"; {files} files of lines also on PostgreSQL" if other else ""
    record(__file__, __doc__, [table(f"Damaged inputs{where}", rows)], begun, packages=["orjson"])


if __name__ == "__main__":
    main()
