"""List prices: by the names that models go by, on the day of the request, as the package has it."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TimeOfDateConstraint

from loop_pipeline.costs.list_prices import by_the_hour, list_price
from loop_pipeline.costs.prices import HALF_HOUR, LIST_PRICES
from loop_pipeline.costs.token_price import Tokens

NOW = dt.datetime(2026, 9, 4, 8, 30, tzinfo=dt.UTC)
# What version 0006 of the store had in a table, with its date.
NOVEMBER = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
NINE = {
    "claude-haiku-4-5": (1.00, 0.10, 5.00),
    "claude-opus-4-8": (5.00, 0.50, 25.00),
    "claude-opus-5": (5.00, 0.50, 25.00),
    "claude-sonnet-5": (2.00, 0.20, 10.00),
    "gemini-3.1-pro-preview": (2.00, 0.20, 12.00),
    "gpt-5-mini": (0.25, 0.025, 2.00),
    "gpt-5.4": (2.50, 0.25, 15.00),
    "gpt-5.5": (5.00, 0.50, 30.00),
    "gpt-5.6": (4.00, 0.40, 20.00),
}


@pytest.mark.parametrize("model", NINE)
def test_nine_models_cost_what_their_makers_said_in_november(model: str) -> None:
    price = list_price(model, NOVEMBER)
    assert price is not None
    assert (price.input, price.cached, price.output) == NINE[model]


@pytest.mark.parametrize(
    ("name", "bills_as"),
    [
        ("gpt-5.5-2026-04-23", "gpt-5.5"),
        ("gpt-5.5-20260423", "gpt-5.5"),
        ("gpt-5.5-2027-02-03", "gpt-5.5"),
        ("gpt-5.5-latest", "gpt-5.5"),
        ("GPT-5.5", "gpt-5.5"),
        (" gpt-5.5 ", "gpt-5.5"),
        ("openai/gpt-5.5", "gpt-5.5"),
        ("openai/gpt-5.5-2026-04-23", "gpt-5.5"),
        ("azure/gpt-5.5", "gpt-5.5"),
        ("azure/eu/gpt-5.5-2026-04-23", "gpt-5.5"),
        ("azure_ai/gpt-5.5", "gpt-5.5"),
        ("openrouter/openai/gpt-5.5", "gpt-5.5"),
        ("litellm_proxy/gpt-5.5", "gpt-5.5"),
        ("our-proxy/openai/gpt-5.5", "gpt-5.5"),
        ("anthropic/claude-opus-5", "claude-opus-5"),
        ("claude-opus-5-20260201", "claude-opus-5"),
        ("claude-opus-5@20260201", "claude-opus-5"),
        ("vertex_ai/claude-opus-5@20260201", "claude-opus-5"),
        ("vertex_ai/claude-opus-5@default", "claude-opus-5"),
        ("bedrock/global.anthropic.claude-opus-5-v1:0", "claude-opus-5"),
        (
            "projects/p/locations/l/publishers/anthropic/models/claude-opus-5",
            "claude-opus-5",
        ),
        ("models/gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
        ("gemini/gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
        ("google/gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
        ("vertex_ai/gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
        ("publishers/google/models/gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
    ],
)
def test_a_build_and_a_prefix_bill_as_the_model(name: str, bills_as: str) -> None:
    found, plain = list_price(name, NOW), list_price(bills_as, NOW)
    assert found is not None
    assert plain is not None
    assert (found.input, found.cached, found.output) == (plain.input, plain.cached, plain.output)


@pytest.mark.parametrize(
    "name",
    [
        "us.anthropic.claude-opus-5-v1:0",
        "anthropic.claude-opus-5-v1:0",
        "bedrock/eu.anthropic.claude-opus-5-20260201-v1:0",
        "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-5-v1:0",
    ],
)
def test_a_cloud_with_a_price_of_its_own_bills_that(name: str) -> None:
    """Amazon takes a tenth more where a region is promised; worldwide it is the maker's price."""
    found = list_price(name, NOW)
    assert found is not None
    assert (found.input, found.output) == (5.5, 27.5)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "gpt", "own-9", "desk-student-1", "gpt-5.5-turbo-ultra", "claude-opus-9"),
        *("azure/my-deployment", "openrouter/auto", "ft:gpt-4.1-mini:acme::x", "whisper-1"),
        # Anybody may run these; what that costs no list knows.
        *("gpt-oss-20b", "openai/gpt-oss-120b", "meta-llama/llama-3.3-70b", "us/deepseek-chat"),
        # A match by a part of the name alone.
        *("moderation", "our-moderation-model"),
    ],
)
def test_what_no_list_knows_is_unpriced(name: str) -> None:
    assert list_price(name, NOW) is None


def test_a_price_is_that_of_the_day() -> None:
    before = LIST_PRICES.of("gpt-5.6-terra", dt.datetime(2026, 7, 29, 23, tzinfo=dt.UTC))
    after = LIST_PRICES.of("gpt-5.6-terra", dt.datetime(2026, 7, 30, tzinfo=dt.UTC))
    assert before is not None
    assert after is not None
    assert (before.input, before.output) == (2.5, 15.0)
    assert (after.input, after.output) == (2.0, 12.0)


def test_a_price_that_changes_within_the_day_does_so_on_the_half_hour() -> None:
    models = [model for seller in get_snapshot().providers for model in seller.models]
    changes = [
        moment
        for model in models
        if isinstance(model.prices, list)
        for price in model.prices
        if isinstance(price.constraint, TimeOfDateConstraint)
        for moment in (price.constraint.start_time, price.constraint.end_time)
    ]
    assert changes
    assert all(moment.minute % HALF_HOUR == moment.second == 0 for moment in changes)
    assert by_the_hour("deepseek-chat")
    assert not by_the_hour("gpt-5.5")
    cheap = LIST_PRICES.of("deepseek-chat", dt.datetime(2026, 3, 1, 0, 29, 59, tzinfo=dt.UTC))
    dear = LIST_PRICES.of("deepseek-chat", dt.datetime(2026, 3, 1, 0, 30, tzinfo=dt.UTC))
    assert cheap is not None
    assert dear is not None
    assert (cheap.input, dear.input) == (0.135, 0.27)


@pytest.mark.parametrize("day", [dt.date(2026, 9, 4), dt.date(2026, 11, 20)])
def test_a_batch_costs_half_also_before_the_list_says_so(day: dt.date) -> None:
    moment = dt.datetime.combine(day, dt.time(9), dt.UTC)
    usual, batch = LIST_PRICES.of("gpt-5.5", moment), LIST_PRICES.of("gpt-5.5", moment, "batch")
    assert usual is not None
    assert batch is not None
    assert (batch.input, batch.output) == (usual.input and usual.input / 2, 15.0)
    assert batch.longer[0][1].input == 5.0


def test_a_tier_that_the_list_does_not_know_is_unpriced_and_a_usual_one_is_none() -> None:
    assert LIST_PRICES.of("claude-opus-5", NOW, "priority") is None
    assert LIST_PRICES.of("gpt-5.5", NOW, "default") == LIST_PRICES.of("gpt-5.5", NOW)
    assert LIST_PRICES.of("gpt-5.5", NOW, "Batch") == LIST_PRICES.of("gpt-5.5", NOW, "batch")


def test_the_sums_are_those_of_the_package() -> None:
    """Every model of the makers that teams use, random tokens; its own arithmetic is Decimal."""
    rng, compared = random.Random(5), 0
    for seller in get_snapshot().providers:
        if seller.id not in ("openai", "anthropic", "google", "x-ai", "mistral", "deepseek"):
            continue
        for model in seller.models:
            name = f"{seller.id}/{model.id}"
            price = list_price(name, NOVEMBER)
            if price is None or price.input is None or price.output is None:
                continue
            sent = rng.choice([120, 5_000, 250_000, 900_000])
            cached, written = rng.randrange(sent // 2), rng.randrange(sent // 3)
            usage = {"input_tokens": sent, "output_tokens": 700, "cache_read_tokens": cached}
            if price.written is not None:
                usage["cache_write_tokens"] = written
            expected = calc_price(
                Usage(**usage),
                model.id,
                provider_id=seller.id,
                genai_request_timestamp=NOVEMBER,
            )
            own = price.cost(Tokens(sent, 700, cached, written))
            if "cache_audio_read_mtok" in vars(expected.model_price):
                continue  # a text request is none of these
            assert own == pytest.approx(float(expected.total_price), rel=1e-9), name
            compared += 1
    assert compared > 150
