"""Every file under ``examples/`` does what the docs say it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from loop_pipeline.cli.main import app
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.routing.policy import load_bundle
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.store.traces import read_traces
from loop_pipeline.traces.importers.jsonl import BadLine, read_jsonl
from loop_pipeline.traces.ingest import import_file
from loop_pipeline_tests.shared import secret

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
EVERY_KIND = {
    "accepted",
    "modified",
    "rejected",
    "regenerated",
    "copied",
    "thumb_up",
    "thumb_down",
    "dwell",
    "rating",
    "judge",
    "review",
}


def test_the_traces_come_in_whole_and_twice_the_same_file_is_the_same_rows(engine: Engine) -> None:
    first = import_file(engine, EXAMPLES / "traces.jsonl", secret=secret, reviews=True)
    again = import_file(engine, EXAMPLES / "traces.jsonl", secret=secret, reviews=True)
    assert (first.traces, first.feedback, first.quarantined) == (20, 20, 0)
    assert (again.traces, again.feedback, again.quarantined) == (0, 0, 0)
    assert (count(engine, TraceRow), count(engine, FeedbackRow)) == (20, 20)
    assert count(engine, QuarantineRow) == 0
    assert set(read(engine, FeedbackRow)["kind"]) == EVERY_KIND


def test_the_traces_show_every_kind_of_contract_and_what_breaks_one(engine: Engine) -> None:
    import_file(engine, EXAMPLES / "traces.jsonl", secret=secret, reviews=True)
    traces = read_traces(engine)
    kinds = [c["kind"] if isinstance(c, dict) else "none" for c in traces["contract"]]
    assert set(kinds) == {"label", "tags", "json", "text", "none"}
    flags = flag_hallucinations(traces, tiers=Tiers()).set_index("prompt_id")
    made_up = flags[flags["flag"]]
    # A label outside the set, JSON without a required field, an amount that no ticket names.
    assert {"example-04", "example-10", "example-12"} <= set(made_up.index)
    assert not flags.loc[["example-01", "example-05", "example-08"], "flag"].any()
    assert (flags.loc[["example-14", "example-16"], "grounded"] == "cannot_tell").all()


def test_prices_come_from_the_table_and_a_price_of_the_log_wins(engine: Engine) -> None:
    import_file(engine, EXAMPLES / "traces.jsonl", secret=secret, reviews=True)
    cost = read(engine, TraceRow).set_index("prompt_id")["cost_usd"]
    assert cost["example-01"] == pytest.approx((60 * 5 + 5 * 25) / 1e6)
    assert cost["example-17"] == pytest.approx((20 * 0.25 + 40 * 0.025 + 5 * 2) / 1e6)
    assert cost["example-20"] == 0


def test_the_traces_hold_no_line_that_would_be_refused() -> None:
    bad = [r for _, r in read_jsonl(EXAMPLES / "traces.jsonl") if isinstance(r, BadLine)]
    assert not bad


def test_the_settings_are_read_from_the_folder_one_works_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.yaml").write_bytes((EXAMPLES / "loop.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOOP_REVIEW_RATE", "0.5")
    settings = load_settings()
    assert (settings.title, settings.requests_per_hour) == ("Support desk", 2400)
    assert settings.notes == ["Reviews are done by the support team on Mondays."]
    assert settings.review_rate == 0.5, "the environment beats the file"


def test_the_recipe_ends_by_time_or_by_money_whichever_comes_first(tmp_path: Path) -> None:
    recipe = QLoRAConfig.from_yaml(EXAMPLES / "recipe-qwen2.5-7b.yaml")
    assert (recipe.profile, recipe.lora_r, recipe.max_length) == ("qwen2.5-7b", 32, 2048)
    assert recipe.minutes == 240
    dear = tmp_path / "recipe.yaml"
    text = (
        (EXAMPLES / "recipe-qwen2.5-7b.yaml").read_text().replace("max_usd: 12 ", "max_usd: 2.5 ")
    )
    dear.write_text(text)
    assert QLoRAConfig.from_yaml(dear).minutes == 60


def test_the_doctor_gives_the_invented_table_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    table, page = EXAMPLES / "outcomes.csv", tmp_path / "page.html"
    said = CliRunner().invoke(app, ["doctor", "--outcomes", str(table), "--html", str(page)])
    assert said.exit_code == 0, said.output
    assert (
        "It earns its keep: of the 58.5% of calls that it sends to a cheaper model" in said.output
    )
    lines = [" ".join(line.split()) for line in said.output.splitlines()]
    goes_to = {w[0]: w[1] for line in lines if len(w := line.split()) > 2}
    assert goes_to["complaints"] == "big", "too few of them agree for a promise"
    assert goes_to["orders"] == goes_to["invoices"] == "small"
    assert "<svg" in page.read_text()


def test_the_policy_is_whole_and_says_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    path = EXAMPLES / "policy.json"
    assert load_bundle(path.read_text("utf-8")).certified
    said = CliRunner().invoke(app, ["policy", "show", str(path)])
    assert said.exit_code == 0, said.output
    assert "to student-example for 94.8%, at least 95.1% agree" in said.output


def test_a_request_is_routed_three_ways() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "route_a_request.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sure, unsure, unknown = done.stdout.splitlines()[::2]
    assert sure == "sure: student-example answers 'delivery': sure enough"
    assert unsure == "unsure: frontier, after the call: not sure enough"
    assert unknown == "unknown: frontier, before the call: unknown prompt template"
