"""What a trace did cost: known or null, by the price of its day, and found fast."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.costs.prices import COUNTS, LIST_PRICES, prices_of

TS = dt.datetime(2026, 9, 4, 8, 30, tzinfo=dt.UTC)


def answer(model: str = "gpt-5.5", **fields: Any) -> dict[str, Any]:
    known = {"model": model, "served_model": None, "producer": "frontier", "ts": TS}
    return known | dict.fromkeys(COUNTS, 0) | {"service_tier": None} | fields


def test_a_dated_model_costs_what_the_model_does() -> None:
    row = answer("gpt-5.5-2026-04-23", tokens_in=120, tokens_out=6)
    assert LIST_PRICES.usd(row) == LIST_PRICES.usd(row | {"model": "gpt-5.5"}) == 0.00078


def test_what_is_not_known_is_null_and_never_nothing() -> None:
    assert LIST_PRICES.usd(answer("own-9", tokens_in=120, tokens_out=6)) is None
    assert LIST_PRICES.usd(answer("gpt-5.5")) is None, "no tokens were logged"
    assert LIST_PRICES.usd(answer("claude-opus-5", tokens_in=1, service_tier="priority")) is None


def test_the_model_that_answered_counts_where_the_one_asked_for_has_no_price() -> None:
    row = answer("our-deployment", served_model="gpt-5.5-2026-04-23", tokens_in=120, tokens_out=6)
    assert LIST_PRICES.usd(row) == 0.00078


def test_a_student_bills_nothing_by_the_token() -> None:
    row = answer("desk-1", producer="student", tokens_in=120, tokens_out=6)
    assert LIST_PRICES.usd(row) == 0.0


def test_cached_and_reasoning_tokens_are_counted_once() -> None:
    row = answer(
        "claude-opus-5",
        tokens_in=10_000,
        tokens_cached=6_000,
        tokens_cache_write=2_000,
        tokens_cache_write_1h=500,
        tokens_out=800,
        tokens_reasoning=600,
    )
    by_hand = 2_000 * 5 + 6_000 * 0.5 + 1_500 * 6.25 + 500 * 10 + 800 * 25
    assert LIST_PRICES.usd(row) == pytest.approx(by_hand / 1e6)


@given(
    st.text(max_size=40) | st.sampled_from(["gpt-5.5", "openai/x", "us.anthropic.y"]),
    st.dictionaries(st.sampled_from(COUNTS), st.integers(0, 2**31 - 1)),
    st.none() | st.text(max_size=9) | st.sampled_from(["batch", "flex"]),
    st.integers(0, 4_000_000_000).map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC)),
)
def test_any_name_has_a_price_or_none_and_no_third_thing(
    model: str, counts: dict[str, int], tier: str | None, ts: dt.datetime
) -> None:
    usd = LIST_PRICES.usd(answer(model, **counts, service_tier=tier, ts=ts))
    assert usd is None or 0 <= usd < 1e9


def test_own_prices_win_and_what_they_leave_out_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("- model: gpt-5.5\n  from: 2026-09-01\n  input: 4\n  output: 20\n")
    prices = prices_of(path)
    row = answer(tokens_in=120, tokens_out=6)
    assert prices.usd(row) == pytest.approx((120 * 4 + 6 * 20) / 1e6)
    assert prices.usd(row | {"model": "azure/gpt-5.5-2026-04-23"}) == prices.usd(row)
    august = {"ts": TS - dt.timedelta(days=7)}
    assert prices.usd(row | august) == 0.00078, "before the day it holds from"
    assert prices.usd(row | {"model": "claude-opus-5"}) == 0.00075
    assert prices.usd(row | {"service_tier": "batch"}) is None, "no factor is given for it"
    assert prices.version != LIST_PRICES.version
    assert prices_of(None) is LIST_PRICES
