"""The code location ``loop``: everything in ``defs``."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Load every asset, check, job, schedule and sensor under ``defs``.

    A run is a process already, and what is large in it starts its own: a process a step would
    import everything again for each of a dozen short steps.
    """
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
