"""What a request costs by its tokens: against a sum by hand, and whatever the counts are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.costs.token_price import Price, Tokens

COUNT = st.integers(0, 2_000_000)
RATE = st.floats(0, 1000, allow_nan=False)
TOKENS = st.builds(Tokens, *[COUNT] * len(Tokens._fields))
PLAIN = st.builds(Price, RATE, RATE, *[st.none() | RATE] * 6)


def _with_longer(price: Price, over: int) -> Price:
    return Price(**vars(price) | {"longer": ((over, price.times(2)),)})


PRICE = PLAIN | st.builds(_with_longer, PLAIN, st.integers(1, 1_000_000))
WHOLE = Price(
    input=2.0,
    output=10.0,
    cached=0.2,
    written=2.5,
    written_1h=4.0,
    audio_in=20.0,
    audio_out=40.0,
    reasoning=12.0,
)


def test_each_token_is_billed_once_by_its_kind() -> None:
    tokens = Tokens(
        sent=1000,
        answered=500,
        cached=300,
        written=200,
        written_1h=50,
        audio_in=100,
        audio_out=60,
        reasoning=140,
    )
    by_hand = 400 * 2 + 300 * 0.2 + 150 * 2.5 + 50 * 4 + 100 * 20 + 300 * 10 + 60 * 40 + 140 * 12
    assert WHOLE.cost(tokens) == pytest.approx(by_hand / 1e6)


def test_a_kind_without_a_price_bills_as_the_rest() -> None:
    plain = Price(input=2.0, output=10.0)
    tokens = Tokens(1000, 500, cached=300, written=200, written_1h=50, audio_in=99, reasoning=77)
    assert plain.cost(tokens) == pytest.approx(plain.cost(Tokens(1000, 500)))


def test_long_requests_bill_all_their_tokens_dearer() -> None:
    price = Price(1.0, 2.0, longer=((1000, Price(3.0, 4.0)), (5000, Price(7.0, 8.0))))
    costs = [price.cost(Tokens(sent, 10)) for sent in (1000, 1001, 5000, 5001)]
    by_hand = [1000 + 20, 3003 + 40, 15_000 + 40, 35_007 + 80]
    assert costs == pytest.approx([usd / 1e6 for usd in by_hand])


def test_tokens_of_a_kind_that_has_no_price_leave_it_unpriced() -> None:
    embedding = Price(input=0.1, output=None)
    assert embedding.cost(Tokens(100, 0)) == pytest.approx(0.00001)
    assert embedding.cost(Tokens(100, 1)) is None


def test_a_request_may_cost_something_by_itself() -> None:
    assert Price(1.0, 1.0, request=0.01).cost(Tokens(0, 0)) == 0.01


@given(PRICE, TOKENS)
def test_a_cost_is_never_negative_nor_anything_but_a_number(price: Price, tokens: Tokens) -> None:
    usd = price.cost(tokens)
    assert usd is not None
    assert math.isfinite(usd)
    assert usd >= 0


@given(PRICE, TOKENS, COUNT, COUNT)
def test_more_tokens_never_cost_less(price: Price, tokens: Tokens, more: int, longer: int) -> None:
    larger = tokens._replace(sent=tokens.sent + more, answered=tokens.answered + longer)
    # Where the parts were cut to what there is, more tokens are more of a part.
    parts = Tokens(*tokens[:2])
    before, after = price.cost(parts), price.cost(Tokens(*larger[:2]))
    assert before is not None
    assert after is not None
    assert after >= before * (1 - 1e-12)


@given(TOKENS)
def test_parts_that_are_more_than_the_whole_are_not_billed_twice(tokens: Tokens) -> None:
    usd = WHOLE.cost(tokens)
    assert usd is not None
    assert usd <= (tokens.sent * 20 + tokens.answered * 40) / 1e6 * (1 + 1e-12)
    same = Price(3.0, 5.0, 3.0, 3.0, 3.0, 3.0, 5.0, 5.0).cost(tokens)
    assert same == pytest.approx((tokens.sent * 3 + tokens.answered * 5) / 1e6)
