"""``report.html``: one file, no script and no request to anywhere, in light and dark.

Not here: its charts (``pictures``).
"""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path

from loop_pipeline.confidence.ceiling import NOT_MEASURED, Ceiling, ceiling_words
from loop_pipeline.costs.attribution import REVIEW, CostNumbers
from loop_pipeline.report.live import LiveNumbers, live_sentences, live_table
from loop_pipeline.report.markup import card, nothing, table
from loop_pipeline.report.numbers import (
    LEXICAL,
    LoopNumbers,
    lessons,
    percent,
)
from loop_pipeline.report.page_tables import groups_table, sources_table
from loop_pipeline.report.pictures.charts import chart_cards
from loop_pipeline.report.words.cost_words import cost_sentence, extras_words, load_sentence
from loop_pipeline.report.words.promise_words import most_words, promise_sentence


def page(numbers: LoopNumbers, live: LiveNumbers | None = None) -> str:
    """The report as a self-contained HTML document.

    Args:
        numbers: what to show; parts that are missing say why.
        live: the newest stretch of live traffic with known right answers, if there was one.
    """
    # One order of the groups, so that a group has the same colour in every chart.
    names = [group.name for group in sorted(numbers.groups, key=lambda group: -group.size)]
    names += [n for n, _ in Counter(p[2] for p in numbers.clusters).most_common() if n not in names]
    sections = [
        _head(numbers),
        _tiles(numbers),
        _live(live),
        groups_table(numbers, names),
        chart_cards(numbers, names),
        _agreement(numbers),
        _costs(numbers),
        _served(numbers),
        sources_table(numbers),
    ]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(numbers.title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(numbers: LoopNumbers) -> str:
    facts = {
        "traces": f"{numbers.traces:,}",
        "days": f"{numbers.days:,}",
        "quarantined": f"{numbers.quarantined:,}",
        "flagged as hallucination": f"{numbers.flags:,} ({percent(numbers.flagged_share)})",
    }
    banner = (
        '<p class="banner"><b>Simulated traffic.</b> Requests, answers, feedback and prices paid '
        "on this page are simulated; the training, the server, the certificate and the "
        "measurements on that traffic are real.</p>"
        if numbers.simulated
        else ""
    )
    banner += "".join(f'<p class="banner"><b>{escape(text)}</b></p>' for text in numbers.warnings)
    items = "".join(f"<span><b>{v}</b> {escape(k)}</span>" for k, v in facts.items())
    items += f"<span>{escape(lessons(numbers.pairs))}</span>"
    return f'<h1>{escape(numbers.title)}</h1>{banner}<div class="facts">{items}</div>'


def _live(live: LiveNumbers | None) -> str:
    if live is None:
        return ""
    head, *rows = live_table(live)
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in live_sentences(live))
    return card("Live traffic through the gateway", f"<ul>{said}</ul>{table(head, rows)}")


def _tile(name: str, value: str, small: str) -> str:
    return f"<span>{escape(name)}</span><strong>{value}</strong><small>{escape(small)}</small>"


def _tiles(numbers: LoopNumbers) -> str:
    found, cover, costs = numbers.agreement, numbers.coverage, numbers.costs
    mark = "Simulated: " if numbers.simulated else ""
    name = numbers.agreement_name
    measure = "" if name == "agreement" else f"{name}; "
    agreement = (
        f"{mark}{measure}95% interval {percent(found.low)} to {percent(found.high)}, "
        f"{found.n:,} held-out requests"
        if found
        else numbers.why("agreement")
    )
    if found and found.reference is not None:
        agreement += f"; {numbers.reference_name or 'reference'} {percent(found.reference)}"
    agreement += f"; {ceiling_words(numbers.ceiling)}" if found else ""
    certified = numbers.why("coverage")
    if cover:
        sentence = promise_sentence(cover, text=any(g.lexical for g in numbers.groups))
        certified = f"{mark}{sentence}; {most_words(cover.most)}"
        if cover.uncertified is not None:
            certified += f"; {percent(cover.uncertified)} without a promise"
    dash = "–"
    tiles = [
        _tile("Student agreement", percent(found.value) if found else dash, agreement),
        _tile("Certified coverage", percent(cover.certified) if cover else dash, certified),
    ]
    covered = blended = dash
    of_covered = of_all = numbers.why("costs")
    if costs:
        load = f"no saving: only {costs.requests_per_hour:,.2g} requests/h in the log"
        saves = costs.pays is not False
        of_covered = mark + ("of the frontier's bill for them" if saves else load)
        of_all = f"{mark}escalations included{extras_words(costs)}" if saves else ""
        covered, blended = map(percent, (costs.covered_ratio, costs.blended_ratio))
        covered, blended = (covered, blended) if saves else ("no saving", "no saving")
    pair = [
        _tile("Cost of covered requests", covered, of_covered),
        _tile("Cost of the whole workload", blended, of_all),
    ]
    singles = "".join(f'<div class="tile">{tile}</div>' for tile in tiles)
    joined = "".join(f"<div>{tile}</div>" for tile in pair)
    return f'<div class="tiles">{singles}<div class="tile pair">{joined}</div></div>'


def _agreement(numbers: LoopNumbers) -> str:
    if numbers.agreement is None:
        return card("Agreement with the frontier", nothing(numbers, "agreement"))
    rows = [
        [
            found.name,
            LEXICAL if found.lexical else "equal answer",
            percent(found.value),
            f"{percent(found.low)} to {percent(found.high)}",
            f"{found.n:,}",
            percent(found.reference),
            _share(found.ceiling),
        ]
        for found in [*numbers.agreement_by_task, numbers.agreement]
    ]
    if numbers.agreement_name not in ("agreement", LEXICAL):
        rows[-1][1] = "both"
    heads = ["task", "measure", "agreement", "95% interval", "requests"]
    mark = " (simulated)" if numbers.simulated else ""
    cover = numbers.coverage
    achieved = (
        f'<p class="soft">With the certified thresholds, {percent(cover.achieved)} of these '
        f"requests were covered, at {percent(cover.achieved_agreement)} agreement.</p>"
        if cover and cover.achieved is not None
        else ""
    )
    return card(
        "Agreement with the frontier on held-out requests" + mark,
        achieved
        + table([*heads, numbers.reference_name or "reference", "ceiling"], rows)
        + f'<p class="soft">{escape(upper(ceiling_words(numbers.ceiling)))}.</p>',
    )


def _share(ceiling: Ceiling | None) -> str:
    return percent(ceiling.value) if ceiling else NOT_MEASURED


def upper(text: str) -> str:
    """A sentence of its own."""
    return text[:1].upper() + text[1:]


def _costs(numbers: LoopNumbers) -> str:
    mark = " (simulated)" if numbers.simulated else ""
    costs: CostNumbers | None = numbers.costs
    if costs is None:
        return card("The bill" + mark, nothing(numbers, "costs"))
    rows = [
        [name, f"{usd:,.4f}", percent(usd / costs.frontier_usd)]
        for name, usd in [
            *((item, usd) for item, usd in costs.parts.items() if usd or item != REVIEW),
            ("sum as routed", costs.bill_usd),
            ("the frontier alone", costs.frontier_usd),
        ]
    ]
    heads = [f"item, for {costs.requests:,} requests", "USD", "of the frontier's bill"]
    return card(
        "The bill" + mark,
        f"<p>{escape(cost_sentence(costs))}</p>"
        f'<p class="soft">{escape(load_sentence(costs))}.</p>{table(heads, rows)}',
    )


def _served(numbers: LoopNumbers) -> str:
    served = numbers.served
    if served is None:
        return ""
    facts = []
    if served.logprob_min is not None:
        facts.append(f"lowest token log-probability {served.logprob_min:.3f}")
    if served.latency_ms is not None:
        facts.append(f"{served.latency_ms:,.0f} ms")
    return card(
        "Asked through the server" + (" (simulated request)" if numbers.simulated else ""),
        f"<blockquote>{escape(served.question)}</blockquote>"
        f"<blockquote><b>{escape(served.answer)}</b></blockquote>"
        f'<p class="soft">{escape(", ".join([numbers.student_adapter or "student", *facts]))}</p>',
    )
