"""Where Dagster keeps its history: the file of its instance is the one it reads."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import SecretStr

from loop_pipeline.dagster_home import dagster_home
from loop_pipeline.settings import LoopSettings


def test_the_folder_has_the_file_of_the_database_that_is_named(tmp_path: Path) -> None:
    settings = LoopSettings.model_validate({"home": tmp_path})
    plain = yaml.safe_load((dagster_home(settings) / "dagster.yaml").read_text())
    assert plain["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert "storage" not in plain
    url = SecretStr("postgresql+psycopg2://loop@127.0.0.1/dagster")
    other = dagster_home(settings.model_copy(update={"dagster_url": url}))
    assert "postgres" in yaml.safe_load((other / "dagster.yaml").read_text())["storage"]
