"""LOOP_PRICES_FILE: what it may say, and what is said of a wrong one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from loop_pipeline.costs.own_prices import OwnPrices, WrongPrices, read_own_prices
from loop_pipeline.costs.token_price import Price, Tokens
from loop_pipeline.settings import load_settings

NOW = dt.datetime(2026, 9, 4, tzinfo=dt.UTC)
EXAMPLE = Path(__file__).parents[2] / "examples" / "prices.yaml"


def _read(tmp_path: Path, text: str) -> OwnPrices:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return read_own_prices(path)


def _price(own: OwnPrices, model: str, moment: dt.datetime = NOW, tier: str | None = None) -> Price:
    found, price = own.find(model, moment, tier)
    assert found
    assert price is not None
    return price


def test_an_entry_says_every_kind_of_token(tmp_path: Path) -> None:
    own = _read(
        tmp_path,
        """
- model: Own-9
  input: 2
  output: 10
  cached: 0.2
  cache_write: 2.5
  cache_write_1h: 4
  audio_in: 20
  audio_out: 40
  reasoning: 12
  request: 0.001
  batch: 0.5
  long_context:
    - over: 100000
      input: 4
      output: 15
""",
    )
    price = _price(own, "own-9")
    tokens = Tokens(1000, 500, 300, 200, 50, 100, 60, 140)
    by_hand = 400 * 2 + 300 * 0.2 + 150 * 2.5 + 50 * 4 + 100 * 20 + 300 * 10 + 60 * 40 + 140 * 12
    assert price.cost(tokens) == pytest.approx(by_hand / 1e6 + 0.001)
    long = (200_000 - 1000) * 4 + 1000 * 0.2 + 10 * 15
    assert price.cost(Tokens(200_000, 10, cached=1000)) == pytest.approx(long / 1e6 + 0.001)
    batch = _price(own, "own-9", tier="batch")
    assert batch.cost(tokens) == pytest.approx((by_hand / 1e6 + 0.001) / 2)


def test_the_newest_price_that_holds_already_counts(tmp_path: Path) -> None:
    entry = "- model: own-9\n  from: {}\n  input: {}\n  output: 1\n"
    own = _read(tmp_path, entry.format("2026-09-01", 3) + entry.format("2026-01-01", 2))
    assert _price(own, "own-9").input == 3
    assert _price(own, "own-9", dt.datetime(2026, 8, 31, 23, tzinfo=dt.UTC)).input == 2
    assert own.find("own-9", dt.datetime(2025, 1, 1, tzinfo=dt.UTC), None) == (False, None)


def test_an_exact_name_wins_over_the_model_it_is_a_build_of(tmp_path: Path) -> None:
    entry = "- model: {}\n  input: {}\n  output: 1\n"
    own = _read(tmp_path, entry.format("gpt-5.5", 3) + entry.format("azure/gpt-5.5", 2))
    assert _price(own, "azure/gpt-5.5").input == 2
    assert _price(own, "openai/gpt-5.5-2026-04-23").input == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: write a list"),
        ("gpt-5.5: 3\n", "line 1: write a list"),
        ("- [\n", "line 2: no YAML"),
        ("- gpt-5.5\n", "line 1, entry 1: write `model: NAME`"),
        ("- model: a\n  output: 1\n", "entry 1 (a): input: is missing; write `input: …`, USD"),
        ("- input: 1\n  output: 1\n", "entry 1: model: is missing"),
        ("- model: a\n  input: '2,5'\n  output: 1\n", "input: write a number"),
        ("- model: a\n  input: yes\n  output: 1\n", "input: write a number"),
        ("- model: a\n  input: .inf\n  output: 1\n", "input: write a number"),
        ("- model: a\n  input: .nan\n  output: 1\n", "input: write a number"),
        ("- model: a\n  input: -1\n  output: 1\n", "input: a price is from 0 to"),
        ("- model: a\n  input: 0.000005\n  output: 1\n", "write USD for a million, such as 5"),
        ("- model: a\n  input: 1\n  output: 1\n  inputs: 1\n", "inputs: no field is called so"),
        ("- model: a\n  input: 1\n  output: 1\n  cach: 1\n", "did you mean cached?"),
        ("- model: a\n  input: 1\n  output: 1\n  from: 1.9.26\n", "from: write a day, such as"),
        (
            "- model: a\n  input: 1\n  output: 1\n- model: b\n  input: 1\n",
            "line 4, entry 2 (b): output: is missing",
        ),
        (
            "- model: a\n  input: 1\n  output: 1\n- model: A\n  input: 1\n  output: 1\n",
            "line 4, entry 2 (A): line 1 has a price of this model from the same day",
        ),
        (
            "- model: a\n  input: 1\n  output: 1\n  long_context:\n    - input: 1\n",
            "long_context.0.over: is missing",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_line_and_what_to_do(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(WrongPrices) as refused:
        _read(tmp_path, text)
    assert str(tmp_path / "prices.yaml") in str(refused.value)
    assert said in str(refused.value)


def test_settings_refuse_a_wrong_file_before_anything_is_priced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_PRICES_FILE", str(tmp_path / "none.yaml"))
    with pytest.raises(SystemExit, match=r"LOOP_PRICES_FILE: .*none.yaml: cannot be read"):
        load_settings()


def test_the_example_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_PRICES_FILE", str(EXAMPLE))
    prices = load_settings().prices
    found = prices.of("our-frontier-7b", NOW)
    assert found is not None
    assert found.cost(Tokens(1_000_000, 0)) is not None
    assert prices.of("gpt-5.5-2026-04-23", NOW, "batch") is not None
