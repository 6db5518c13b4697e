"""Report: one page a person can read, and the numbers behind it."""

import datetime as dt

import dagster as dg

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.routing import routing_policy
from loop_pipeline.defs.serving import ask
from loop_pipeline.report.gather import gather
from loop_pipeline.report.live import read_live
from loop_pipeline.report.numbers import LoopNumbers, Served
from loop_pipeline.report.page import page
from loop_pipeline.report.pictures.plots import cost_coverage_figure, plot_png_markdown
from loop_pipeline.report.summary import summary
from loop_pipeline.routing.evidence.calibration_rows import held_out_answers
from loop_pipeline.serving.fleet import open_fleet
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import upsert
from loop_pipeline.store.policies import champion_of
from loop_pipeline.store.tables import LedgerRow
from loop_pipeline.traces.shown_text import text_block
from loop_pipeline.whole_file import read_model, write_whole


@dg.asset(deps=[routing_policy], group_name="report", kinds={"html"}, code_version="1")
def loop_report(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """Quality, coverage and cost of the loop as it stands: `report.html` and one screen of text.

    **When to run it:** the jobs `retrain` and `refresh_report` do. `loop report` prints the summary
    and says where the page is.

    **If it fails,** the report before it stays. Without a server it is made all the same, only
    without an answer of the student in it.

    **Read more** in `docs/concepts/costs.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    checkpoint = champion_of(engine)
    answers = held_out_answers(engine, checkpoint["checkpoint_id"] if checkpoint else "")
    numbers = gather(engine, settings, answers, _question(context, loop))
    folder = settings.artifacts / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "report.html", page(numbers, read_live(folder)))
    write_whole(folder / "numbers.json", numbers.model_dump_json(indent=1))
    today = dt.datetime.now(dt.UTC).date().isoformat()
    said = "traffic so far, as routed now"
    parts = numbers.costs.parts if numbers.costs else {}
    rows = [
        {"day": today, "item": i, "amount_usd": usd, "detail": said} for i, usd in parts.items()
    ]
    with engine.begin() as connection:
        upsert(connection, LedgerRow, rows)
    picture = plot_png_markdown(cost_coverage_figure(numbers.groups))
    return dg.MaterializeResult(
        metadata={
            **_figures(numbers),
            "plot": dg.MetadataValue.md(picture),
            "summary": dg.MetadataValue.md(text_block(summary(numbers))),
            "report": dg.MetadataValue.path(str(folder / "report.html")),
        }
    )


def _figures(numbers: LoopNumbers) -> dict[str, int | float]:
    """The figures that are followed from report to report; what is not known has no point."""
    known: dict[str, int | float | None] = {
        "traces": numbers.traces,
        "flagged_share": numbers.flagged_share,
        "pairs": numbers.pairs.get("sft", 0),
    }
    if student := numbers.agreement:
        known["gold_agreement"] = student.value
        known["ceiling"] = student.ceiling.value if student.ceiling else None
    if numbers.coverage:
        known["certified_coverage"] = numbers.coverage.certified
        known["most_certifiable_coverage"] = numbers.coverage.most
        known["achieved_coverage"] = numbers.coverage.achieved
        known["achieved_agreement"] = numbers.coverage.achieved_agreement
    if numbers.costs:
        pays = numbers.costs.pays is not False
        known["blended_cost_ratio"] = numbers.costs.blended_ratio
        # Below the break-even no part of the bill is a saving, however small it looks alone.
        known["covered_cost_ratio"] = numbers.costs.covered_ratio if pays else None
        known["logged_requests_per_hour"] = numbers.costs.logged_requests_per_hour
        known["break_even_requests_per_hour"] = numbers.costs.break_even_requests_per_hour
        known["frontier_usd"] = numbers.costs.frontier_usd
    return {name: value for name, value in known.items() if value is not None}


def _question(context: dg.AssetExecutionContext, loop: Loop) -> Served | None:
    checkpoint = champion_of(loop.engine())
    if checkpoint is None:
        return None
    try:
        server = open_fleet(loop.settings()).servers[0]
        question, answer = ask(loop, server, adapter_name(checkpoint["checkpoint_id"]))
    except ServerError as error:  # a report is of use without a server
        context.log.warning(f"no served answer in the report: {error}")
        return None
    return Served(
        question=question,
        answer=answer.text,
        logprob_min=answer.logprob_min,
        latency_ms=answer.latency_ms,
    )


@dg.asset_check(asset=loop_report)
def ratios_stand_together(loop: Loop) -> dg.AssetCheckResult:
    """The whole workload costs at least what its frontier share alone costs: no ratio flatters.

    **If it fails,** nothing stops, but the report's cost figures contradict each other. It is a
    fault of this software.

    **What to do:** do not use the cost figures; report it with the check's metadata.

    **Read more** in `docs/concepts/costs.md`.
    """
    path = loop.settings().artifacts / "report" / "numbers.json"
    numbers = read_model(path, LoopNumbers, mend="materialize loop_report to write it anew")
    if numbers.costs is None:
        return dg.AssetCheckResult(passed=True, description="nothing is routed yet")
    rest = numbers.costs.parts["frontier, escalations"] / numbers.costs.frontier_usd
    return dg.AssetCheckResult(
        passed=numbers.costs.blended_ratio >= rest,
        metadata={
            "blended_cost_ratio": numbers.costs.blended_ratio,
            "frontier_share_of_cost": rest,
        },
    )
