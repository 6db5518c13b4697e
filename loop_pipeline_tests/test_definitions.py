from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from loop_pipeline.definitions import defs

HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "trl", "datasets", "vllm", "mlflow"}
STAGES = {
    "traces": {"trace_log", "raw_traces"},
    "labels": {
        "hallucination_flags",
        "trace_signals",
        "reviewers",
        "judge_verdicts",
        "review_queue",
        "quality_model",
        "quality_scores",
        "labeled_pairs",
    },
    "groups": {"task_groups", "group_model_stats"},
    "training": {"training_set", "base_model", "qlora_checkpoint", "checkpoint_evaluation"},
    "serving": {"vllm_deployment"},
    "routing": {"routing_policy"},
    "report": {"loop_report"},
}
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def location() -> dg.Definitions:
    loaded = defs()
    dg.Definitions.validate_loadable(loaded)
    return loaded


def test_the_stages_are_the_asset_groups(location: dg.Definitions) -> None:
    found: dict[str, set[str]] = {}
    for spec in location.resolve_all_asset_specs():
        found.setdefault(str(spec.group_name), set()).add(spec.key.to_user_string())
    assert found == STAGES


def described(location: dg.Definitions) -> dict[str, str]:
    """What Dagster's pages say of every definition, by kind and name."""
    repository, graph = location.get_repository_def(), location.resolve_asset_graph()
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    automations = [*repository.schedule_defs, *repository.sensor_defs]
    found = {f"asset {key.to_user_string()}": graph.get(key) for key in graph.get_all_asset_keys()}
    found |= {f"check {key.name}": graph.get(key) for key in graph.asset_check_keys}
    found |= {f"job {job.name}": job for job in jobs}
    found |= {f"{type(one).__name__} {one.name}": one for one in automations}
    return {name: one.description or "" for name, one in found.items()}


def test_every_definition_says_what_it_is_when_to_run_it_and_where_to_read_more(
    location: dg.Definitions,
) -> None:
    said = described(location)
    kinds = Counter(name.split()[0] for name in said)
    assert kinds["asset"] >= 19
    assert kinds["check"] >= 15
    assert kinds["job"] >= 12
    assert kinds["ScheduleDefinition"] + kinds["BuildScheduleFromPartitionsJob"] >= 5
    assert kinds["SensorDefinition"] >= 4
    for name, text in said.items():
        pages = re.findall(r"\bdocs/[\w/-]+\.md\b", text)
        assert pages, f"{name} links to no page"
        for page in pages:
            assert (ROOT / page).is_file(), f"{name} links to {page}, which is not there"
        first = text.partition("\n\n")[0]
        assert first.endswith("."), name
        if name.startswith("check"):
            assert "**If it fails,**" in text, name
            assert "**What to do:**" in text, name
        elif name != "asset trace_log":
            assert re.search(r"\*\*When to run it:\*\*|^When to turn it on:", text, re.M), name


def test_a_check_that_stops_nothing_says_so(location: dg.Definitions) -> None:
    said, graph = described(location), location.resolve_asset_graph()
    for key in graph.asset_check_keys:
        harmless = re.search("only warns|nothing stops", said[f"check {key.name}"])
        assert graph.get(key).blocking or harmless, key.name


def test_what_ships_is_gated(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get(key).blocking}
    assert {
        "splits_share_nothing",
        "beats_champion",
        "server_answers",
        "policy_keeps_its_promise",
        "pairs_are_unique",
        "positives_are_clean",
    } <= blocking


def test_training_waits_for_the_gpu(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    for name in ("base_model", "qlora_checkpoint"):
        assert graph.get(dg.AssetKey(name)).pools == {"gpu"}


def test_daily_schedule_asks_for_yesterday(location: dg.Definitions) -> None:
    schedule = location.resolve_schedule_def("daily_labels")
    import datetime as dt

    with dg.instance_for_test() as instance:
        context = dg.build_schedule_context(
            instance,
            scheduled_execution_time=dt.datetime(2026, 9, 5, 2, tzinfo=dt.UTC),
            repository_def=location.get_repository_def(),
        )
        requests = schedule.evaluate_tick(context).run_requests
    assert [r.partition_key for r in requests or []] == ["2026-09-04"]


def test_the_code_location_loads_without_gpu_libraries(tmp_path: Path) -> None:
    code = (
        "import sys; from loop_pipeline.definitions import defs; defs();"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    environment = os.environ | {"LOOP_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert not list(tmp_path.iterdir())  # loading opens nothing
