"""What runs on a home, for other terminals: a lock, and a file that says which processes.

Not here: who keeps them running (``keep_running.py``).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop_pipeline.whole_file import write_whole

LOCK = "up.lock"
STATE = "up.json"


@contextmanager
def sole(home: Path, command: str) -> Iterator[int]:
    """Be the only one that runs processes on this home.

    Args:
        home: the loop's home folder.
        command: as people typed it, for the second one's message.

    Yields:
        The lock's descriptor: a child that is given it holds the lock, too.

    Raises:
        RuntimeError: another one is; one line that names it.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(_taken(home)) from None
        write_state(home, {"command": command, "pid": os.getpid(), "services": []})
        yield descriptor
        (home / STATE).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def write_state(home: Path, facts: dict[str, Any]) -> None:
    """Say what runs."""
    write_whole(home / STATE, json.dumps(facts, indent=1) + "\n")


def status_command(home: Path) -> str:
    """What to type in another terminal, where the home is perhaps not set."""
    usual = home.absolute() == Path(".loop").absolute()
    return "loop status" if usual else f"LOOP_HOME={home} loop status"


def read_state(home: Path) -> dict[str, Any] | None:
    """What runs on this home now; None if nothing does, whatever an earlier end left behind.

    ``killed`` is true where whoever ran it is gone and what is left is being ended.
    """
    try:
        descriptor = os.open(home / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _facts(home)
    finally:
        os.close(descriptor)
    return None


def _facts(home: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((home / STATE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return facts | {"killed": not _is_alive(facts["pid"])}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _taken(home: Path) -> str:
    facts = _facts(home)
    if facts is None or facts["killed"]:
        return f"what ran on {home} is still ending: try again in a minute"
    command, pid = facts["command"], facts["pid"]
    return f"`{command}` runs on {home} already (pid {pid}): see `{status_command(home)}`"
