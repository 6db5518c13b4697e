"""How large a demo is on this machine: measured first, so that a turn takes minutes everywhere.

What is simulated and run then is said in ``runs``.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from loop_pipeline.child_environment import child_environment
from loop_pipeline.whole_file import write_whole


@dataclass(frozen=True)
class Size:
    """Requests that are simulated, and tokens that the base learns from."""

    requests: int
    base_tokens: int


# The first that fits is taken. With fewer requests no group would have the calibration rows that a
# certificate takes.
SIZES = (
    Size(12_000, 1_600_000),
    Size(9_000, 1_300_000),
    Size(6_000, 1_000_000),
)
# Of a turn on two idle cores (2.1 GHz, AVX-512): the speed of the base's training, and the seconds
# of everything else, with and without the requests.
IDLE_TOKENS_PER_SECOND = 12_000
FIXED_S = 60
REQUEST_S = 0.0145
# A turn takes about six minutes on such cores; a quarter of an hour is the most that is begun.
MOST_S = 15 * 60


def seconds(size: Size, tokens_per_second: float) -> float:
    """What a turn takes on a machine as fast as this, if everything is slower alike."""
    idle = FIXED_S + REQUEST_S * size.requests + size.base_tokens / IDLE_TOKENS_PER_SECOND
    return idle * IDLE_TOKENS_PER_SECOND / tokens_per_second


def choose(tokens_per_second: float) -> Size:
    """The largest size whose turn takes at most a quarter of an hour; else the smallest."""
    fitting = (size for size in SIZES if seconds(size, tokens_per_second) <= MOST_S)
    return next(fitting, SIZES[-1])


def measure(python: Path) -> float:
    """Tokens a second of the real training step on this machine now; takes some seconds.

    Raises:
        RuntimeError: the step cannot be taken; with the last line of why.
    """
    # As in a training: threads that wait for each other do not spin.
    done = subprocess.run(
        [str(python), "-m", "loop_pipeline.training.speed"],
        env=child_environment(OMP_WAIT_POLICY="PASSIVE"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"{python} cannot train: {last[0]}")
    return float(done.stdout.split()[-1])


def size_for(file: Path, python: Path) -> tuple[Size, str]:
    """The size of the demo whose choice is kept in this file, and the sentence about it.

    Measured and chosen once: a second call has to find the same traffic.
    """
    if not file.exists():
        speed = measure(python)
        write_whole(file, json.dumps({"tokens_per_second": speed, **asdict(choose(speed))}))
    kept = json.loads(file.read_text("utf-8"))
    speed = kept.pop("tokens_per_second")
    size = Size(**kept)
    minutes = seconds(size, speed) / 60
    said = (
        f"{speed:,.0f} tokens a second are trained on here now, so {size.requests:,} requests are"
        f" simulated: about {max(1, round(minutes))} minutes."
    )
    if size != SIZES[0]:
        said += (
            f" That is less than the {SIZES[0].requests:,} of an idle machine, and certifies less."
        )
    return size, said
