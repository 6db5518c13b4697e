from collections.abc import Iterator

import pytest

from loop_pipeline_tests.serving.stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.stop()
