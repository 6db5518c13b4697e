"""Whether an interpreter has the libraries that training takes, before minutes are spent.

It is asked without importing them: that alone takes many seconds.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from loop_pipeline.child_environment import child_environment

NEEDED = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets")
LOOK = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if not u.find_spec(n)])"


def check_training_libraries(python: Path) -> None:
    """Look for them in an interpreter.

    Raises:
        RuntimeError: some are missing, or there is no such interpreter; says how to get them.
    """
    try:
        found = subprocess.run(
            [python, "-c", LOOK, *NEEDED],
            capture_output=True,
            text=True,
            check=True,
            env=child_environment(),
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"LOOP_TRAIN_PYTHON: {python} is no working Python") from error
    if missing := found.stdout.split():
        raise RuntimeError(
            f"training needs {', '.join(missing)}, which {python} does not have: install "
            "`loop-pipeline[train]` there, or name another interpreter with LOOP_TRAIN_PYTHON"
        )
