from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loop_pipeline.settings import load_settings

SECRET = "hunter2-hunter2"


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What a person reads about a `loop.yaml` and variables; the secret is never in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))

    def read(yaml: str = "", **variables: str) -> list[str]:
        Path("loop.yaml").write_text(yaml)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            load_settings()
        text = str(end.value)
        assert SECRET not in text
        assert text.startswith("wrong settings:\n  ")
        return [line.strip() for line in text.splitlines()[1:]]

    return read


def test_a_misspelt_setting_in_a_file_names_the_near_one_and_the_line(said) -> None:
    [line] = said(f"title: A\ntarget_agrement: {SECRET}\n")
    assert line == (
        "loop.yaml, line 2: no setting is called target_agrement; did you mean target_agreement?"
    )


def test_a_misspelt_variable_names_the_near_one(said) -> None:
    [line] = said(LOOP_TARGET_AGREMENT=SECRET)
    assert line == (
        "LOOP_TARGET_AGREMENT: no setting is called so; did you mean LOOP_TARGET_AGREEMENT?"
    )


def test_a_variable_that_is_like_no_setting_is_somebody_elses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_PORT_8199_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("LOOP_SERVICE_HOST", "10.0.0.1")
    assert load_settings().title == "The loop"


def test_a_wrong_value_says_where_it_stands_but_not_what_it_is(said) -> None:
    [first, second] = said(f"delta: {SECRET}\nrollout: {SECRET}\n")
    assert first.startswith("loop.yaml, line 1: delta: Input should be a valid number")
    assert second == "loop.yaml, line 2: rollout: Input should be 'staged' or 'direct'"


def test_a_variable_beats_the_file_and_is_named_in_its_place(said) -> None:
    [line] = said("delta: 0.1\n", LOOP_DELTA="0.7")
    assert line == "LOOP_DELTA: Input should be less than 0.5"


def test_a_secret_in_a_file_is_refused_without_showing_it(said) -> None:
    [line] = said(f"judge_api_key: {SECRET}\n")
    assert line == (
        "loop.yaml, line 1: judge_api_key: not read from a file; set LOOP_JUDGE_API_KEY instead"
    )


@pytest.mark.parametrize("place", [f"ann:x@{SECRET}@db", f"ann:{SECRET}", f"ann:x@db:{SECRET}"])
def test_an_unescaped_password_is_not_shown(said, place: str) -> None:
    [line] = said(LOOP_DATABASE_URL=f"postgresql+psycopg2://{place}/loop")
    assert "LOOP_DATABASE_URL" in line
    assert "in a password write %40 for @" in line


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("title: A\nnotes: [a\nb: c\n", "loop.yaml, line 3: no YAML:"),
        ("- title\n", "loop.yaml, line 1: write one `name: value` a line"),
        ("title: !!python/object/apply:os.system [ls]\n", "loop.yaml, line 1: no YAML:"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_says_where(said, yaml: str, words: str) -> None:
    [line] = said(yaml)
    assert line.startswith(words)


def test_a_bomb_of_aliases_is_not_printed(said) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert all(len(line) < 200 for line in said(bomb))


def test_a_list_that_is_no_json_is_named(said) -> None:
    assert "notes" in said(LOOP_NOTES=SECRET)[0]


@pytest.mark.parametrize("name", ["FRONTIER_URLS", "ANTHROPIC_URLS", "VLLM_URL", "JUDGE_URL"])
@pytest.mark.parametrize(
    ("value", "part"),
    [
        ('["https://a/v1", "https://b/v1"]', 1),
        ("[https://a/v1, https://b/v1]", 1),
        ("https://a/v1 https://b/v1", 1),
        ("https://a/v1, 'https://b/v1'", 2),
        (f"host:8000,https://me:{SECRET}@b/v1", 1),
        ("https://", 1),
        ("https://a:70000/v1", 1),
        ("ftp://a/v1", 1),
    ],
)
def test_what_is_no_address_of_a_server_is_said_at_the_start(said, name, value, part) -> None:
    [line] = said(**{f"LOOP_{name}": value})
    assert line.startswith(f"LOOP_{name}")
    assert f"part {part} is no address such as https://host/v1" in line


@pytest.mark.parametrize(
    "value", ["", "http://[::1]:8000/v1", "https://a/v1/, http://b:8000", "http://me:%40@a/v1"]
)
def test_addresses_of_servers_are_taken(value, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_FRONTIER_URLS", value)
    assert load_settings().frontier_urls == value
