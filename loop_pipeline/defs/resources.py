"""Every resource, bound to the ``LOOP_*`` variables once a run needs it; none opens at import."""

import dagster as dg
from sqlalchemy import Engine

from loop_pipeline.settings import LoopSettings, load_settings
from loop_pipeline.store.database import open_store
from loop_pipeline.store.table_io import TableIOManager


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
