import pytest

pytest.importorskip("trl")

from loop_pipeline.training.speed import tokens_per_second
from loop_pipeline_tests.training.conftest import make_tiny_things_smaller

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds


def test_a_smaller_model_is_measured_as_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokens_per_second(0.5)
    make_tiny_things_smaller(monkeypatch)
    assert tokens_per_second(0.5) > 2 * whole > 0
