"""One MLflow run, written to a file first: a training outlives the server that records it.

Not here: what is recorded (``training/qlora/run.py``).

What cannot be delivered stays in the file, and goes when the server is back: during the run, at its
end, or whenever someone delivers the same folder again. MLflow keeps one of a point sent twice.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loop_pipeline.store.mlflow_log.mlflow_runs import Line, post
from loop_pipeline.store.tracking import (
    Tracking,
    TrackingDown,
    experiment_id,
    few_retries,
    mlflow_client,
    register_adapter,
)
from loop_pipeline.whole_file import write_whole

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

RETRY_S = 60
# As MLflow makes them: 32 hexadecimal digits.
RUN_ID = re.compile(r"[0-9a-f]{32}")


class RunRecord:
    """The record of one run, in its folder. Nothing is sent before `deliver`."""

    def __init__(self, tracking: Tracking, folder: Path) -> None:
        self.tracking, self.folder = tracking, folder
        self.error = ""
        self.resumed = False
        self._lines = folder / "mlflow.jsonl"
        self._sent = folder / "mlflow_sent"  # bytes of the lines that have arrived
        self._run_id = folder / "mlflow_run_id"
        self._next_try = 0.0

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id; None until the server was reached once, or if damaged."""
        known = _text(self._run_id)
        return known if RUN_ID.fullmatch(known) else None

    def begin(self, name: str, tags: dict[str, str], parent: Path | None = None) -> None:
        """Open the run: a new one, or again the one that a killed process has left.

        Args:
            name: Of the run.
            tags: Of this process, beside the ones of `Tracking`.
            parent: Folder of the run that this one is nested in.
        """
        tags = {**tags, **self.tracking.tags}
        self.resumed = self._opened() is not None
        if self.resumed:
            self.tags(tags)
            self.status("RUNNING")
        else:
            self._add("run", {"name": name, "parent": str(parent or ""), "tags": tags})

    def params(self, values: dict[str, Any]) -> None:
        """Parameters; a value cannot be changed later."""
        self._add("params", values)

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """One point of each named curve."""
        self._add("metrics", {"values": values, "step": step})

    def tags(self, values: dict[str, str]) -> None:
        """Tags; a later value replaces an earlier one."""
        self._add("tags", values)

    def rename(self, name: str) -> None:
        """Another name of the run, when more is known of it."""
        self._add("name", {"name": name})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file, kept under ``folder`` of the run's artifacts."""
        self._add("artifact", {"path": str(path.absolute()), "folder": folder})

    def dataset(self, path: Path, sha256: str) -> None:
        """The rows (JSONL) that the run learns from, and their data version."""
        self._add("dataset", {"path": str(path.absolute()), "sha256": sha256})

    def status(self, value: str) -> None:
        """``RUNNING``, ``FINISHED`` or ``FAILED``."""
        self._add("status", {"value": value})

    def deliver(self) -> bool:
        """Send what MLflow has not got; a server that does not take it is no error here.

        Returns:
            Whether everything has arrived.
        """
        return self._attempt(self._send) is not None

    def deliver_if_due(self) -> None:
        """`deliver`, but after a failure not again for a minute."""
        if time.monotonic() >= self._next_try:
            self.deliver()

    def register(self, adapter_dir: Path, sha256: str) -> str | None:
        """Make the adapter a model version, once everything else of its run has arrived.

        Returns:
            The version; None if MLflow cannot be reached.
        """
        if not self.deliver():
            return None
        run_id = str(self.run_id)
        return self._attempt(lambda: register_adapter(self.tracking, run_id, adapter_dir, sha256))

    def missing(self) -> str:
        """What MLflow has not got and why, in words; empty: nothing."""
        counts = Counter(line["kind"] for _, line in self._pending())
        said = ", ".join(f"{n} x {kind}" for kind, n in counts.items())
        return "; ".join(part for part in (said, self.error) if part)

    def _add(self, kind: str, content: Line) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"kind": kind, "at": int(1000 * time.time()), "content": content}
        with self._lines.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # half a line of a killed process
                    file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")

    def _read(self, start: int = 0) -> Iterator[tuple[int, Line]]:
        """Lines from a place on, each with where it ends (bytes)."""
        if not self._lines.exists():
            return
        with self._lines.open("rb") as file:
            file.seek(start)
            for raw in file:
                start += len(raw)
                try:
                    line = json.loads(raw)
                except ValueError:  # half a line, of a process that was killed as it wrote
                    continue
                yield start, line

    def _opened(self) -> Line | None:
        """The line that opens the run; None if there is none, or only half of it."""
        return next((line for _, line in self._read() if line["kind"] == "run"), None)

    def _pending(self) -> Iterator[tuple[int, Line]]:
        """Lines that have not arrived, each with where it ends (bytes).

        All of them where the file that counts them is damaged, or the run's id: sent twice is kept
        once, and what is not sent is missing.
        """
        said, ends = _text(self._sent), [end for end, _ in self._read()]
        arrived = self.run_id is not None and said in map(str, ends)
        return self._read(int(said) if arrived else 0)

    def _attempt(self, what: Callable[[], T]) -> T | None:
        """None and the reason in ``error`` if MLflow or the way to it fails."""
        try:
            with few_retries(self.tracking.tracking_uri):
                done = what()
        except TrackingDown as error:
            self.error = str(error)
            self._next_try = time.monotonic() + RETRY_S
            return None
        self.error = ""
        return done

    def _send(self) -> bool:
        pending = list(self._pending())
        if not pending:
            return True
        client = mlflow_client(self.tracking.tracking_uri)
        run_id = self.run_id or self._create(client)
        for kind, group in itertools.groupby(pending, key=lambda entry: entry[1]["kind"]):
            entries = list(group)
            post(client, run_id, kind, [line for _, line in entries])
            write_whole(self._sent, str(entries[-1][0]))
        return True

    def _create(self, client: MlflowClient) -> str:
        first = self._opened()
        if first is None:
            raise TrackingDown(f"{self._lines} does not say which run it is the record of")
        run, tags = first["content"], {}
        if run["parent"]:
            parent = RunRecord(self.tracking, Path(run["parent"]))
            parent._send()
            tags["mlflow.parentRunId"] = str(parent.run_id)
        made = client.create_run(
            experiment_id(client, self.tracking),
            start_time=first["at"],
            run_name=run["name"],
            tags=run["tags"] | tags,
        )
        write_whole(self._run_id, made.info.run_id)
        return made.info.run_id


def _text(path: Path) -> str:
    """What a small file of the record holds; nothing where it is not there, or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


@contextmanager
def recorded_run(
    tracking: Tracking,
    folder: Path,
    name: str,
    tags: dict[str, str],
    parent: Path | None = None,
) -> Iterator[RunRecord]:
    """Record a run in a folder; an exception marks it as failed and passes on.

    The caller delivers: a run that has ended well still has an adapter to register.
    """
    record = RunRecord(tracking, folder)
    record.begin(name, tags, parent)
    try:
        yield record
    except BaseException:
        with suppress(OSError):  # a full disk: what it has ended says so better
            record.status("FAILED")
            record.deliver()
        raise
