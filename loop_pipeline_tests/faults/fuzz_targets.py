"""What damaged inputs are handed to, and what has to hold afterwards: nothing is lost unsaid.

Not here: the inputs (``fuzz_inputs.py``), and how many (``test_fuzz.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, select

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.access.limits import NoLimits
from loop_pipeline.gateway.formats.exchange import BadRequest, Reply, Request
from loop_pipeline.gateway.http.parts import FORMATS
from loop_pipeline.gateway.http.problems import Problem
from loop_pipeline.gateway.intake.feedback_in import read_feedback
from loop_pipeline.gateway.intake.litellm_in import read_litellm
from loop_pipeline.labels.reviews.spreadsheets import read_sheet
from loop_pipeline.routing.policy import BadBundle, load_bundle
from loop_pipeline.serving.adapter_check import remembered
from loop_pipeline.store.tables import (
    ContractRow,
    FeedbackRow,
    QuarantineRetryRow,
    QuarantineRow,
    TraceRow,
)
from loop_pipeline.traces.importers.import_files import UnreadableFile
from loop_pipeline.traces.importers.jsonl import BadLine, Note, Record, parse_line
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.quarantine.quarantine_list import chosen
from loop_pipeline.traces.quarantine.quarantine_retry import retry
from loop_pipeline.traces.records import Feedback
from loop_pipeline.training.dataset.frozen_check import DamagedSet, check_frozen
from loop_pipeline_tests.faults.case_stages import neighbour
from loop_pipeline_tests.shared import secret

CALLER = Caller("k", "app", "shop", frozenset({"feedback", "ingest"}), NoLimits(), "shop")
# Between two sound lines.
TOGETHER = 8
Rows = list[tuple[Any, ...]]


class Store:
    """A store that is emptied before each file."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self._path = engine, folder / "damaged.jsonl"

    def takes_lines(self, inputs: Sequence[bytes]) -> Rows:
        """Import damaged lines with sound ones among them. Returns what is in the store then."""
        lines, sound = _among_neighbours(inputs)
        self._path.write_bytes(b"\n".join(lines) + b"\n")
        with self.engine.begin() as connection:
            _empty(connection)
        import_file(self.engine, self._path, secret=secret)
        with self.engine.connect() as connection:
            held = _held(connection)
            _nothing_is_lost(connection, self._path, sound)
        return held

    def tries_again(self) -> Rows:
        """Take what is in quarantine up again: with nothing mended, nothing may change."""
        bad = len(_bad_lines(self.engine))
        done = retry(self.engine, chosen(), _line_again, secret=secret)
        assert (done.left, done.stayed + done.not_tried) == (0, bad)
        with self.engine.connect() as connection:
            return _held(connection)

    def takes_file(self, content: bytes) -> Rows:
        """Import damaged bytes as one file, which may be no file of traces at all."""
        self._path.write_bytes(content)
        with self.engine.begin() as connection:
            _empty(connection)
        try:
            import_file(self.engine, self._path, secret=secret)
        except UnreadableFile as error:
            assert str(self._path) in str(error)
        with self.engine.connect() as connection:
            return _held(connection)

    def takes_sheet(self, content: bytes, suffix: str) -> None:
        """Take damaged bytes as a sheet of reviews; what is refused is refused in a sentence."""
        path = self._path.with_suffix(suffix)
        path.write_bytes(content)
        with self.engine.begin() as connection:
            _empty(connection)
        try:
            read_sheet(self.engine, path, reviewer="ann")
        except ValueError as error:
            assert path.name in str(error)


def _among_neighbours(inputs: Sequence[bytes]) -> tuple[list[bytes], set[str]]:
    lines, sound = [], set()
    for start in range(0, len(inputs), TOGETHER):
        beside = neighbour(start // TOGETHER)
        lines += [json.dumps(beside).encode(), *inputs[start : start + TOGETHER]]
        sound.add(beside["prompt_id"])
    return lines, sound


def _bad_lines(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(QuarantineRow.line).where(*chosen())))


def _line_again(row: dict[str, Any]) -> list[Record]:
    return parse_line(row["raw"].encode())


def _empty(connection: Connection) -> None:
    for table in (FeedbackRow, TraceRow, ContractRow, QuarantineRow, QuarantineRetryRow):
        connection.execute(delete(table))


def _held(connection: Connection) -> Rows:
    """What the store holds, as far as two stores have to be alike."""
    traces = select(TraceRow.prompt_id, TraceRow.day, TraceRow.output, TraceRow.dedup_key)
    feedback = select(FeedbackRow.feedback_id, FeedbackRow.prompt_id, FeedbackRow.kind)
    bad = select(QuarantineRow.line, QuarantineRow.prompt_id, QuarantineRow.raw)
    found = [connection.execute(statement) for statement in (traces, feedback, bad)]
    return sorted((tuple(row) for part in found for row in part), key=repr)


def _nothing_is_lost(connection: Connection, path: Path, sound: set[str]) -> None:
    """Every line that says something is stored, or in quarantine with a reason."""
    ids = set(connection.scalars(select(TraceRow.prompt_id)))
    assert sound <= ids, f"sound neighbours are lost: {sorted(sound - ids)}"
    feedback = set(connection.scalars(select(FeedbackRow.feedback_id)))
    held = list(connection.execute(select(QuarantineRow.line, QuarantineRow.reason)))
    assert all(reason.strip() for _, reason in held)
    bad = {line for line, _ in held}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip() and number not in bad:
            records = parse_line(line)
            assert not any(isinstance(one, BadLine) for one in records), f"line {number} is lost"
            assert any(not isinstance(one, Note) for one in records), f"line {number} is nothing"
            said = any(isinstance(one, Feedback) for one in records)
            assert not said or feedback, f"the feedback on line {number} is lost"


# ---- parsers that store nothing ------------------------------------------------------------


def takes_feedback(body: bytes) -> None:
    """What the endpoint accepts can be imported afterwards; anything else is a problem told."""
    try:
        rows = read_feedback(body, CALLER, b"s" * 32).rows
    except Problem:
        return
    _can_be_imported(rows)


def takes_litellm(body: bytes) -> None:
    """As ``takes_feedback``, of a batch of LiteLLM's."""
    try:
        rows = read_litellm(body, CALLER, b"s" * 32).rows
    except Problem:
        return
    _can_be_imported(rows)


def _can_be_imported(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for record in parse_line(json.dumps(row).encode()):
            assert not isinstance(record, BadLine), f"accepted, and then refused: {record.reason}"


def takes_request(wire: str) -> Callable[[bytes], None]:
    """A request of a wire format is read, or refused in a sentence."""
    reader = next(module for name, module in FORMATS.items() if name == wire)

    def read(body: bytes) -> None:
        try:
            assert isinstance(reader.read_request(body), Request)
        except BadRequest as error:
            assert str(error)
        assert isinstance(reader.read_reply(body), Reply)

    return read


def takes_policy(body: bytes) -> None:
    """A policy is read, or refused in a sentence."""
    try:
        load_bundle(body.decode("utf-8", "replace"))
    except BadBundle as error:
        assert "\n" not in str(error)


def takes_adapters(folder: Path) -> Callable[[bytes], None]:
    """The list of adapters is read, or refused in a sentence."""
    path = folder / "adapters.json"

    def read(body: bytes) -> None:
        path.write_bytes(body)
        try:
            assert all(isinstance(name, str) for name in remembered(path).values())
        except ValueError as error:
            assert str(path) in str(error)

    return read


def takes_frozen_set(folder: Path, dataset_id: str) -> Callable[[bytes], None]:
    """A training set with a damaged file is refused, and whole again it is taken."""
    path = folder / "train.jsonl"
    whole = path.read_bytes()

    def read(body: bytes) -> None:
        path.write_bytes(body)
        try:
            check_frozen(folder, dataset_id)
            assert body == whole, "a damaged training set was taken"
        except DamagedSet as error:
            assert body != whole
            assert str(folder) in str(error)
        finally:
            path.write_bytes(whole)

    return read
