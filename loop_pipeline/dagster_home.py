"""The folder in ``LOOP_HOME`` where Dagster keeps run history, schedules and sensors' places.

Nothing here imports dagster: `defs` is what runs in it, `cli.ui` and the demo are what use it.
"""

from __future__ import annotations

from pathlib import Path

from loop_pipeline.settings import LoopSettings
from loop_pipeline.whole_file import write_whole

PACKAGE = Path(__file__).parent
# The name stays: schedules and sensors that were turned on are kept under it.
WORKSPACE = """load_from:
  - python_module: {module_name: loop_pipeline.definitions, location_name: loop}
"""


def dagster_home(settings: LoopSettings) -> Path:
    """Make the folder: SQLite, or PostgreSQL where ``LOOP_DAGSTER_URL`` is set.

    Returns:
        Its absolute path, with ``dagster.yaml`` and ``workspace.yaml`` of this version.
    """
    home = settings.home.absolute() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    name = "dagster.yaml" if settings.dagster_url.get_secret_value() else "dagster_sqlite.yaml"
    # In the repository, or beside the package's modules in a wheel.
    folders = (PACKAGE.parent / "infra", PACKAGE / "infra")
    found = next(path for folder in folders if (path := folder / name).exists())
    # Whole: a webserver, a daemon and a run that start together all come by here.
    write_whole(home / "dagster.yaml", found.read_text("utf-8"))
    write_whole(home / "workspace.yaml", WORKSPACE)
    return home
