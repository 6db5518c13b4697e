"""The code location ``loop``: everything in ``defs``."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Load every asset, check, job, schedule and sensor under ``defs``."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
