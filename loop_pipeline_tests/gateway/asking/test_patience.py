"""How long a student is waited for follows from how long it took, and from the client."""

from __future__ import annotations

import pytest

from loop_pipeline.gateway.asking.patience import ENOUGH, Limit, Patience


def after(*seconds: float) -> Patience:
    patience = Patience(2.0)
    for took in seconds:
        patience.took("s", took)
    return patience


def test_until_enough_is_known_it_is_what_the_deployment_allows() -> None:
    assert after(*[0.2] * (ENOUGH - 1)).limit("s") == Limit(2.0)


def test_then_it_is_thrice_the_slowest_twentieth() -> None:
    patience = after(*[0.1] * 90, *[0.4] * 10)
    assert patience.limit("s").seconds == pytest.approx(1.2)
    assert patience.limit("other") == Limit(2.0)
    assert after(*[5.0] * 50).limit("s") == Limit(2.0)
    assert after(*[0.001] * 50).limit("s") == Limit(0.1)


def test_half_of_what_the_client_waits_is_the_most_and_blames_nobody() -> None:
    patience = after(*[0.4] * 50)
    assert patience.limit("s", 1.0) == Limit(0.5, telling=False)
    assert patience.limit("s", 10.0) == Limit(pytest.approx(1.2))  # pyright: ignore[reportArgumentType]
    assert patience.limit("s", 0.0).seconds == patience.limit("s", -3.0).seconds == 0.0


def test_a_student_that_becomes_slower_is_waited_for_again() -> None:
    patience = after(*[0.05] * 200)
    tries = 0
    while (limit := patience.limit("s").seconds) < 1.0:
        patience.took("s", limit)
        tries += 1
    assert tries < 60
