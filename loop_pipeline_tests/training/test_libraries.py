from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from loop_pipeline.training.libraries import check_training_libraries


def test_an_interpreter_without_the_libraries_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    bare = tmp_path / "bare/bin/python"
    with pytest.raises(RuntimeError, match=r"needs torch, .*loop-pipeline\[train\]") as error:
        check_training_libraries(bare)
    assert str(bare) in str(error.value)


def test_no_interpreter_at_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"LOOP_TRAIN_PYTHON: .*nothing is no working Python"):
        check_training_libraries(tmp_path / "nothing")


def test_the_interpreter_of_the_tests_has_them() -> None:
    check_training_libraries(Path(sys.executable))
