import pytest

pytest.importorskip("trl")

from loop_pipeline.training.speed import tokens_per_second
from loop_pipeline_tests.training.conftest import make_tiny_things_smaller

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds


def test_a_smaller_model_is_measured_as_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _at_best()
    make_tiny_things_smaller(monkeypatch)
    assert _at_best() > whole > 0


def _at_best() -> float:
    # Other work on the machine only slows a step down.
    return max(tokens_per_second(0.5) for _ in range(4))
