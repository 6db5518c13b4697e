"""Every resource, bound to the ``LOOP_*`` variables once a run needs it; none opens at import."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.child_environment import TRAINING_SECRETS, child_environment
from loop_pipeline.settings import LoopSettings, load_settings
from loop_pipeline.store import tables
from loop_pipeline.store.database import open_store, read, records, replace_days
from loop_pipeline.store.traces import read_traces
from loop_pipeline.store.training_data import replace_pairs

TABLES: dict[str, type[tables.Base]] = {
    "raw_traces": tables.TraceRow,
    "hallucination_flags": tables.HallucinationFlagRow,
    "trace_signals": tables.TraceSignalRow,
    "quality_scores": tables.QualityScoreRow,
    "labeled_pairs": tables.LabeledPairRow,
}
SEEN_BY = "seen_by"


def traces_seen_by(step: str) -> dg.AssetIn:
    """The traces of the days, those that this earlier step of the run has a row for."""
    return dg.AssetIn(metadata={SEEN_BY: step})


class TableIOManager(dg.ConfigurableIOManager):
    """Stores a partitioned asset as the rows of its days; a day again gives the same rows."""

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Replace the rows of the materialized days."""
        table = TABLES[context.asset_key.path[-1]]
        with self._engine().begin() as connection:
            if table is tables.LabeledPairRow:
                gone = replace_pairs(connection, context.asset_partition_keys, records(obj))
                if gone:
                    context.log.info(f"{gone} earlier pairs are superseded")
                return
            replace_days(connection, table, context.asset_partition_keys, records(obj))

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Read the rows of the days that the reader is about.

        A run sees the traces that its first step saw, which has written a row for each: what is
        imported meanwhile is left to the next run. ``seen_by`` has the rows of that step.
        """
        engine = self._engine()
        table, days = TABLES[context.asset_key.path[-1]], context.asset_partition_keys
        if table is not tables.TraceRow:
            return read(engine, table, days=days)
        traces = read_traces(engine, days=days)
        if before := (context.definition_metadata or {}).get(SEEN_BY):
            seen = read(engine, TABLES[before], days=days, columns=["prompt_id"])["prompt_id"]
            traces = traces[traces["prompt_id"].isin(set(seen))].reset_index(drop=True)
        return traces

    def _engine(self) -> Engine:
        settings = load_settings()
        return open_store(settings.store_url, settings.app)


class Loop(dg.ConfigurableResource):
    """The loop's settings and store."""

    def settings(self) -> LoopSettings:
        """``LOOP_*`` variables and ``loop.yaml``, as they are now."""
        return load_settings()

    def engine(self) -> Engine:
        """The store, with its schema up to date."""
        settings = self.settings()
        return open_store(settings.store_url, settings.app)


class TrainingProcess(dg.PipesSubprocessClient):
    """Dagster's client for a process of its own, which here does not learn what it need not know.

    Dagster's passes its whole environment on: the database's password, the judge's key.
    """

    def run(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        context: dg.AssetExecutionContext,
        command: Sequence[str],
        extras: dict[str, Any],
        env: Mapping[str, str],
    ) -> dg.PipesClientCompletedInvocation:
        """Run a command to its end; a stop of the run is passed on, with time to save.

        Raises:
            RuntimeError: the process failed.
        """
        with dg.open_pipes_session(
            context=context,
            context_injector=self.context_injector,
            message_reader=self.message_reader,
            extras=extras,
        ) as session:
            told = session.get_bootstrap_env_vars()
            process = subprocess.Popen(
                command, env=child_environment(TRAINING_SECRETS, **env) | dict(told)
            )
            try:
                if code := process.wait():
                    raise RuntimeError(f"{command[-1]} failed with code {code}")
            except dg.DagsterExecutionInterruptedError:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=self.termination_timeout_seconds)
                raise
        return dg.PipesClientCompletedInvocation(session)


@dg.definitions
def resources() -> dg.Definitions:
    """The resources of the code location."""
    return dg.Definitions(
        resources={
            "loop": Loop(),
            "io_manager": TableIOManager(),
            # A checkpoint must have time to reach the disk when a run is stopped.
            "pipes": TrainingProcess(termination_timeout_seconds=60),
        }
    )
