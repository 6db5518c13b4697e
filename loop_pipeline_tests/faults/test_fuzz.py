"""Damaged inputs into every parser: no traceback, no sound neighbour lost, nothing lost unsaid.

2,000 a day, 100,000 a night, each made from its number alone. LOOP_FUZZ=first-last takes those: a
night that was stopped goes on where it was, and a failure can be tried again by its number.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop_pipeline.store.database import open_store
from loop_pipeline.training.dataset.frozen_check import name_of
from loop_pipeline_tests.faults import fuzz_seeds as seeds
from loop_pipeline_tests.faults.fuzz_inputs import FIELDS, ODD_VALUES, Inputs
from loop_pipeline_tests.faults.fuzz_targets import (
    Store,
    takes_adapters,
    takes_feedback,
    takes_frozen_set,
    takes_litellm,
    takes_policy,
    takes_request,
)

CASES = Path(os.environ.get("LOOP_CASES") or Path(__file__).parents[3] / "shared" / "cases")
DAILY, NIGHTLY = 2000, 100_000
# Numbers that are taken together; of each, so many are lines of one file.
BLOCK, LINES = 200, 120
# Every so many blocks are imported into PostgreSQL, too.
SAMPLED = 10

Take = Callable[[bytes], object]


class Fuzz:
    """All parsers, and the damaged inputs of each."""

    def __init__(self, folder: Path, other: Store | None = None) -> None:
        self.store = Store(open_store(f"sqlite:///{folder}/fuzz.db"), folder)
        self._other = other
        self.records = Inputs(seeds.record_seeds(CASES))
        frozen = folder / "frozen"
        frozen.mkdir()
        self._single: list[tuple[str, Inputs, Take]] = [
            ("file", _files(self.records), self.store.takes_file),
            ("sheet", Inputs(seeds.SHEET), lambda raw: self.store.takes_sheet(raw, ".csv")),
            ("lines of a sheet", _lined(seeds.SHEET_LINES), self._sheet_lines),
            ("feedback", Inputs(seeds.FEEDBACK), takes_feedback),
            ("LiteLLM", Inputs(seeds.LITELLM), takes_litellm),
            *((wire, Inputs(raw), takes_request(wire)) for wire, raw in seeds.REQUESTS.items()),
            ("policy", Inputs(seeds.POLICIES), takes_policy),
            ("adapters", Inputs(seeds.ADAPTERS), takes_adapters(folder)),
            ("training set", *_frozen(frozen)),
        ]

    def _sheet_lines(self, raw: bytes) -> None:
        self.store.takes_sheet(raw, ".jsonl")

    def block(self, first: int) -> Iterator[tuple[str, int]]:
        """Take the inputs of a block. Yields how many of each kind there were."""
        numbers = range(first, first + LINES)
        self._lines(numbers, sampled=first // BLOCK % SAMPLED == 0)
        yield "line", LINES
        for number in range(first + LINES, first + BLOCK):
            name, inputs, take = self._single[number % len(self._single)]
            try:
                take(inputs.made(number, name))
            except Exception as error:
                raise AssertionError(f"input {number} ({name}): LOOP_FUZZ={first}") from error
            yield name, 1

    def _lines(self, numbers: range, *, sampled: bool) -> None:
        made = [self.records.made(number) for number in numbers]
        try:
            held = self.store.takes_lines(made)
        except Exception as error:
            guilty = [n for n, one in zip(numbers, made, strict=True) if not self._alone(one)]
            raise AssertionError(f"lines {guilty}: LOOP_FUZZ={numbers[0]}") from error
        if sampled:
            assert self.store.tries_again() == held, f"tried again: LOOP_FUZZ={numbers[0]}"
        if sampled and self._other:
            assert self._other.takes_lines(made) == held, f"other rows: LOOP_FUZZ={numbers[0]}"

    def _alone(self, one: bytes) -> bool:
        """Whether this input does no harm by itself."""
        try:
            self.store.takes_lines([one])
        except Exception:  # noqa: BLE001  whatever it was, it is raised with its number
            return False
        return True


def _files(records: Inputs) -> Inputs:
    """Whole files: lines, an array, one object over several lines, packed."""
    some = [seed for seed in records.seeds if seed.strip().startswith(b"{")][:60]
    lines, array = b"\n".join(some), b"[" + b",\n".join(some) + b"]"
    pretty = json.dumps(json.loads(some[0]), indent=1).encode()
    return Inputs([lines[:9000], array[:9000], array, pretty, gzip.compress(lines, mtime=0)])


def _lined(lines: list[bytes]) -> Inputs:
    return Inputs([*lines, b"\n".join(lines)])


def _frozen(folder: Path) -> tuple[Inputs, Take]:
    for name, rows in seeds.FROZEN.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in rows))
    dataset_id = name_of(seeds.FROZEN)
    (folder / "dataset.json").write_text(json.dumps({"sha256": dataset_id}))
    whole = (folder / "train.jsonl").read_bytes()
    return Inputs([whole, *whole.splitlines(keepends=True)]), takes_frozen_set(folder, dataset_id)


def _run(fuzz: Fuzz, first: int, last: int, say: Callable[[str], object]) -> Counter[str]:
    done: Counter[str] = Counter()
    for start in range(first, last, BLOCK):
        for name, number in fuzz.block(start):
            done[name] += number
        if start // BLOCK % 25 == 24:
            say(f"{start + BLOCK - first} inputs: {dict(done)}\n")
    return done


def _asked(first: int, last: int) -> tuple[int, int]:
    """What LOOP_FUZZ names, or these."""
    given = os.environ.get("LOOP_FUZZ", "")
    if not given:
        return first, last
    one, _, other = given.partition("-")
    return int(one), int(other or int(one) + BLOCK)


def test_damaged_inputs_break_nothing_and_nothing_is_lost(tmp_path: Path) -> None:
    done = _run(Fuzz(tmp_path), *_asked(0, DAILY), sys.stdout.write)
    assert done.total() >= BLOCK


JSON = st.recursive(
    st.sampled_from(ODD_VALUES) | st.text(st.characters(codec=None), max_size=6) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON, max_size=6)
# Sound ones of which some fields are anything, and anything at all.
LINES_OF_JSON = st.lists(
    st.builds(lambda sound, odd: sound | odd, st.sampled_from(seeds.RECORDS), OBJECTS) | JSON,
    min_size=1,
    max_size=12,
)


@given(values=LINES_OF_JSON)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_json_is_stored_or_in_quarantine(
    fuzz_store: Store, values: list[dict[str, object]]
) -> None:
    lines = [json.dumps(value).encode("utf-8", "surrogatepass") for value in values]
    held = fuzz_store.takes_lines(lines)
    assert fuzz_store.tries_again() == held


@pytest.fixture
def fuzz_store(tmp_path: Path) -> Iterator[Store]:
    engine = open_store(f"sqlite:///{tmp_path}/any.db")
    yield Store(engine, tmp_path)
    engine.dispose()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.postgres
def test_a_hundred_thousand_damaged_inputs_break_nothing(tmp_path: Path, postgres: str) -> None:
    from loop_pipeline_tests.shared import TEMPLATE, fresh_database

    engine = open_store(fresh_database(postgres, TEMPLATE))
    (tmp_path / "other").mkdir()
    fuzz = Fuzz(tmp_path, Store(engine, tmp_path / "other"))
    done = _run(fuzz, *_asked(DAILY, DAILY + NIGHTLY), sys.stdout.write)
    engine.dispose()
    assert done.total() >= BLOCK
