import pytest

from loop_pipeline.costs.prices import PRICES, price, price_of


def test_worked_request_of_the_methods() -> None:
    assert price("claude-opus-5").cost(1500, 0, 300) == pytest.approx(0.0150)
    assert price("gpt-5-mini").cost(1500, 0, 300) == pytest.approx(0.000975)


def test_cached_tokens_are_part_of_the_prompt_and_cheaper() -> None:
    opus = price("claude-opus-5")
    assert opus.cost(1000, 400, 0) == pytest.approx((600 * 5 + 400 * 0.5) / 1e6)
    assert opus.cost(0, 0, 0) == 0


@pytest.mark.parametrize(
    ("name", "bills_as"),
    [
        ("claude-opus-5-20260214", "claude-opus-5"),
        ("claude-opus-5@20260214", "claude-opus-5"),
        ("vertex_ai/claude-haiku-4-5@default", "claude-haiku-4-5"),
        ("us.anthropic.claude-sonnet-5-20260101-v1:0", "claude-sonnet-5"),
        ("openrouter/openai/gpt-5-mini", "gpt-5-mini"),
        ("GPT-5.4-2026-01-09", "gpt-5.4"),
        ("models/gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
    ],
)
def test_a_build_and_a_provider_bill_as_the_model(name: str, bills_as: str) -> None:
    assert price_of(name) == PRICES[bills_as]


@pytest.mark.parametrize("name", ["", "/", "gpt-5", "gpt-5.5-nano", "my-gpt-5.5", "-2026-01-01"])
def test_another_model_has_no_price(name: str) -> None:
    assert price_of(name) is None


@pytest.mark.parametrize("counts", [(10, 11, 0), (-1, 0, 0), (10, 0, -1)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible token counts"):
        price("gpt-5.4").cost(*counts)


def test_an_unknown_model_gets_the_list_of_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no price for 'gpt-9'.*claude-opus-5.*gpt-5\.6"):
        price("gpt-9")


def test_every_cached_token_is_cheaper_than_a_fresh_one() -> None:
    assert all(p.tokens_cached < p.tokens_in < p.tokens_out for p in PRICES.values())
