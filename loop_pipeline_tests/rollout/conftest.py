"""The simulated world of routing, for tests of this folder."""

from loop_pipeline_tests.routing.conftest import bundle, world  # noqa: F401  fixtures
