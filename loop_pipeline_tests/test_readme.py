from __future__ import annotations

import re
from pathlib import Path

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.settings import LoopSettings

ROOT = Path(__file__).parents[1]


def test_the_readme_lists_every_setting_and_no_other() -> None:
    listed = set(re.findall(r"^\| `(LOOP_\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    outside = {"LOOP_DAGSTER_URL", "LOOP_PYTHON"}  # read by infra, not by the loop
    outside |= {"LOOP_JUDGE_API_KEY", "LOOP_EMBEDDER_API_KEY"}  # a secret is no setting
    assert listed - outside == {f"LOOP_{name.upper()}" for name in LoopSettings.model_fields}


def test_the_recipe_shown_is_one(tmp_path: Path) -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path = tmp_path / "recipe.yaml"
    path.write_text(shown)
    assert QLoRAConfig.from_yaml(path).minutes == 240
    path.write_text(shown.replace("max_usd: 12", "max_usd: 2.5"))
    assert QLoRAConfig.from_yaml(path).minutes == 60


def test_the_project_names_no_machine_and_no_registry() -> None:
    words = re.compile(
        r"/work/|/root/|/home/\w|pypi\.org|pythonhosted|download\.pytorch|127\.0\.0\.1:\d+/simple"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for folder in ("loop_pipeline", "infra", "benchmarks", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in (".py", ".sh", ".txt", ".yaml", ".md", ".css", "")
        for match in words.finditer(path.read_text(errors="replace"))
    ]
    assert not found
