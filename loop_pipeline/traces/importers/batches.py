"""Records in batches, each of which is one transaction; and what belongs to one line of them.

Not here: storing them (``ingest.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loop_pipeline.traces.feedback_joins import Said
from loop_pipeline.traces.importers.jsonl import BadLine, Note, Record
from loop_pipeline.traces.records import Feedback, Trace
from loop_pipeline.traces.trace_lines import TraceLine

BATCH = 2000
# Of lines in one transaction, whichever is reached first.
BATCH_BYTES = 32 * 1024**2
TRACES = (TraceLine, Trace)
Batch = Sequence[tuple[int, Record]]


def in_batches(records: Iterable[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    """Records in batches of about one size; what stands on one line stays together."""
    batch: list[tuple[int, Record]] = []
    size = 0
    for line, record in records:
        full = len(batch) >= BATCH or size >= BATCH_BYTES
        if full and (line != batch[-1][0] or isinstance(record, TRACES)):
            yield batch
            batch, size = [], 0
        batch.append((line, record))
        size += len(record.raw) if isinstance(record, TraceLine | BadLine) else 0
    if batch:
        yield batch


def said_in(batch: Batch, refused: set[int]) -> Iterator[Said]:
    """The feedback of a batch; what stands on the line of a trace shares its fate."""
    trace: tuple[int, TraceLine | Trace] | None = None
    for line, record in batch:
        if isinstance(record, TRACES):
            trace = (line, record)
        elif isinstance(record, Feedback):
            own = trace and trace[0] == line and trace[1].prompt_id == record.prompt_id
            yield Said(line, record, id(trace[1]) in refused if trace and own else None)


def line_of(record: Record) -> bytes:
    """The line on which a record stood."""
    if isinstance(record, TraceLine):
        return record.raw
    if isinstance(record, BadLine):
        return record.raw.encode()
    if isinstance(record, Note):
        return record.text.encode()
    if isinstance(record, Feedback):
        return record.line()
    return record.model_dump_json().encode()
