import pytest

from loop_pipeline.costs.prices import PRICES, price


def test_worked_request_of_the_methods() -> None:
    assert price("claude-opus-5").cost(1500, 0, 300) == pytest.approx(0.0150)
    assert price("gpt-5-mini").cost(1500, 0, 300) == pytest.approx(0.000975)


def test_cached_tokens_are_part_of_the_prompt_and_cheaper() -> None:
    opus = price("claude-opus-5")
    assert opus.cost(1000, 400, 0) == pytest.approx((600 * 5 + 400 * 0.5) / 1e6)
    assert opus.cost(0, 0, 0) == 0


@pytest.mark.parametrize("counts", [(10, 11, 0), (-1, 0, 0), (10, 0, -1)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible token counts"):
        price("gpt-5.4").cost(*counts)


def test_an_unknown_model_gets_the_list_of_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no price for 'gpt-9'.*claude-opus-5.*gpt-5\.6"):
        price("gpt-9")


def test_every_cached_token_is_cheaper_than_a_fresh_one() -> None:
    assert all(p.tokens_cached < p.tokens_in < p.tokens_out for p in PRICES.values())
