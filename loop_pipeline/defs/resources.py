"""Every resource, bound to the ``LOOP_*`` variables once a run needs it; none opens at import."""

import dagster as dg
import pandas as pd
from sqlalchemy import Engine

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


class TableIOManager(dg.ConfigurableIOManager):
    """Stores a partitioned asset as the rows of its days; a day again gives the same rows."""

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Replace the rows of the materialized days."""
        table = TABLES[context.asset_key.path[-1]]
        with open_store(load_settings().store_url).begin() as connection:
            if table is tables.LabeledPairRow:
                gone = replace_pairs(connection, context.asset_partition_keys, records(obj))
                context.log.info(f"{gone} earlier pairs are superseded")
                return
            replace_days(connection, table, context.asset_partition_keys, records(obj))

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Read the rows of the days that the reader is about."""
        engine = open_store(load_settings().store_url)
        table, days = TABLES[context.asset_key.path[-1]], context.asset_partition_keys
        if table is tables.TraceRow:
            return read_traces(engine, days=days)
        return read(engine, table, days=days)


class Loop(dg.ConfigurableResource):
    """The loop's settings and store."""

    def settings(self) -> LoopSettings:
        """``LOOP_*`` variables and ``loop.yaml``, as they are now."""
        return load_settings()

    def engine(self) -> Engine:
        """The store, with its schema up to date."""
        return open_store(self.settings().store_url)


@dg.definitions
def resources() -> dg.Definitions:
    """The resources of the code location."""
    return dg.Definitions(
        resources={
            "loop": Loop(),
            "io_manager": TableIOManager(),
            # A checkpoint must have time to reach the disk when a run is stopped.
            "pipes": dg.PipesSubprocessClient(termination_timeout_seconds=60),
        }
    )
