"""One whole turn of the loop, by the jobs a user would run, on an embedded store.

Not here: which traffic it runs on (``runs.py``).
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from threadpoolctl import threadpool_limits

from loop_pipeline.dagster_home import dagster_home
from loop_pipeline.masking import masked
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.serving.server_errors import last_lines
from loop_pipeline.serving.supervisor_process import start_supervisor
from loop_pipeline.serving.supervisor_process import stop as stop_supervisor
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.tables import TraceRow
from loop_pipeline.traces.ingest import import_file

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
# A supervisor that cannot listen or lacks its interpreter says so within seconds.
SETTLED_S = 5


class TurnFailed(RuntimeError):
    """A job of the turn failed; says which step and why."""


class Turn:
    """Runs the loop's jobs one after the other and says what it is doing."""

    def __init__(self, settings: LoopSettings, say: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.engine = open_store(settings.store_url, settings.app)
        # Entered, so that definitions are loaded beside this instance and not an earlier one's.
        self._open = contextlib.ExitStack()
        self.instance = self._open.enter_context(
            dg.DagsterInstance.from_config(str(dagster_home(settings)))
        )
        self.say = say
        self.started = time.monotonic()
        self.stage_began: float | None = None

    def close(self) -> None:
        """Let go of both databases."""
        self._open.close()
        self.engine.dispose()

    def stage(self, text: str) -> None:
        """Say how long the last stage took, and announce the next with the time since the start."""
        now = time.monotonic()
        if self.stage_began is not None and now - self.stage_began >= 1:
            self.say(f"          took {now - self.stage_began:.0f} s")
        self.stage_began = now
        self.say(f"[{now - self.started:5.0f} s] {text}")

    def import_traces(self, path: Path) -> None:
        """Import a JSON-lines file of traces, feedback and verdicts that the demo wrote itself."""
        self.stage(f"importing {path.name}")
        done = import_file(
            self.engine,
            path,
            secret=self.settings.secret,
            reviews=True,
            prices=self.settings.prices,
        )
        self.say(f"          {done}")

    def run(
        self,
        job: str,
        config: dict[str, Any] | None = None,
        *,
        days: bool = False,
        without: Collection[str] = (),
    ) -> None:
        """Run a job of the code location, over all days of traffic if it is partitioned.

        Args:
            job: its name.
            config: run configuration.
            days: whether it is partitioned.
            without: its assets that an earlier job of the same turn has just made.

        Raises:
            TurnFailed: a step or a blocking check failed.
        """
        from loop_pipeline.definitions import defs

        tags = {}
        if days:
            seen = sorted(set(read(self.engine, TraceRow, columns=["day"])["day"]))
            tags = {RANGE_START: seen[0], RANGE_END: seen[-1]}
        run_id = str(uuid.uuid4())
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        # Beside other work on the same cores, threads that spin while they wait cost more than they
        # bring: fitting the embedder took 120 s with two and 37 s with one, at a load of 20.
        alone = threadpool_limits(limits=1, user_api="blas")
        with alone, self._follow(run_id), warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.PreviewWarning)
            found = defs().resolve_job_def(job)
            keys = found.asset_layer.selected_asset_keys - {dg.AssetKey(name) for name in without}
            result = found.execute_in_process(
                run_config=quiet | (config or {}),
                instance=self.instance,
                tags=tags,
                run_id=run_id,
                asset_selection=sorted(keys) if without else None,
                raise_on_error=False,
            )
        if not result.success:
            raise TurnFailed(f"job {job}: {_why(result)}")

    @contextmanager
    def _follow(self, run_id: str) -> Iterator[None]:
        done = threading.Event()

        def follow() -> None:
            cursor = None
            while True:
                last = done.wait(2)
                page = self.instance.get_records_for_run(run_id, cursor=cursor)
                cursor = page.cursor
                for record in page.records:
                    if line := _progress(record.event_log_entry):
                        self.say(f"          {line}")
                if last:
                    return

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join(timeout=10)

    @contextmanager
    def serving(self, config: QLoRAConfig) -> Iterator[None]:
        """Keep the student's server up: the same supervisor as ``loop serve``."""
        where = masked(self.settings.vllm_urls[0])
        self.stage(f"starting vLLM at {where} (log: {self.settings.vllm_log})")
        server = start_supervisor(
            self.settings.base_of(config),
            self.settings.vllm_urls[0],
            self.settings.serve_python,
            self.settings.vllm_log,
            max_lora_rank=config.lora_r,
            max_model_len=config.max_length + self.settings.max_answer_tokens,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(SETTLED_S)
                raise TurnFailed(f"no server: {last_lines(self.settings.vllm_log, 1)}")
            yield
        finally:
            stop_supervisor(server)


def _progress(entry: dg.EventLogEntry) -> str:
    """What people want to read of a run: what the steps say themselves, and how long they took."""
    event = entry.dagster_event
    if event is not None:
        seconds = event.step_success_data.duration_ms / 1000 if event.is_step_success else 0.0
        return f"{event.step_key}: {seconds:.0f} s" if seconds >= 1 else ""
    known = entry.user_message.startswith(("[pipes]", "Dependencies for"))
    return "" if known or int(entry.level) < logging.INFO else entry.user_message


def _why(result: dg.ExecuteInProcessResult) -> str:
    # A failed blocking check also fails its step; what the check says is worth more.
    failed = [
        f"{e.check_name} of {e.asset_key.to_user_string()}: {e.description or e.metadata}"
        for e in result.get_asset_check_evaluations()
        if not e.passed and e.severity is dg.AssetCheckSeverity.ERROR
    ]
    if failed:
        return f"check {'; '.join(failed)}"
    for event in result.all_events:
        if event.is_step_failure and (error := event.step_failure_data.error):
            said = event.step_failure_data.user_failure_data
            words = said.description if said else (error.cause or error).message
            return f"step {event.step_key}: {(words or error.message).strip()}"
    return "see the run in Dagster"
