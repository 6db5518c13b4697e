"""The building blocks of a page. What is not ``Html`` is escaped on its way in.

Not here: what a page says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from loop_pipeline.report.numbers import LoopNumbers, Part, percent
from loop_pipeline.report.pictures.svg import N_COLOURS, colour


class Html(str):
    """Text that is HTML already. Everything else is escaped on its way into the page."""


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], style: str = "") -> Html:
    """A table of escaped cells; it scrolls sideways where the screen is narrow."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return Html(
        f'<div class="scroll"><table class="{style}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def card(title: str, body: str) -> str:
    """One section of the page."""
    return f'<section class="card"><h2>{escape(title)}</h2>{body}</section>'


def key(name: str, names: Sequence[str]) -> Html:
    """A name with the colour it has in every chart."""
    rank = names.index(name) if name in names else N_COLOURS
    return Html(f'<i class="key" style="background:{colour(rank)}"></i>{escape(name)}')


def legend(shown: Iterable[str], names: Sequence[str]) -> str:
    """The names in a chart, in their colours."""
    keys = "".join(f"<span>{key(name, names)}</span>" for name in shown)
    return f'<div class="legend">{keys}</div>'


def nothing(numbers: LoopNumbers, part: Part) -> str:
    """Says why a part is empty, in place of an empty chart."""
    return f'<p class="none">Not here: {escape(numbers.why(part))}</p>'


def bar(share: float | None, paint: str) -> str:
    """A share as a bar and a figure."""
    width = min(max(share or 0.0, 0.0), 1.0)
    fill = f'<b style="width:{width:.1%};background:{paint}"></b>'
    return f'<div class="bar"><i>{fill}</i><span>{percent(share)}</span></div>'
