"""What a vLLM server refused, and why, in one line.

Who asked it is in ``student_server``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from loop_pipeline.http_calls.bounded_http import TooLarge
from loop_pipeline.http_calls.http_safety import Redirected
from loop_pipeline.masking import masked


class ServerError(RuntimeError):
    """The server did not do what it was asked. The text says where, what, and its own words."""

    def __init__(self, text: str, *, status: int | None = None, words: str = "") -> None:
        super().__init__(masked(text))
        self.status = status
        self.words = masked(words)


def subject_of(body: Mapping[str, Any]) -> str:
    """The model or adapter that a request names."""
    return repr(body.get("model") or body.get("lora_name"))


def reason_of(error: requests.RequestException) -> str:
    """Why no reply came, in the words of whoever has to mend it."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, TooLarge | Redirected):
        return str(error)
    if "refused" in str(error):
        return "nothing listens there (is it running? loop serve)"
    return f"the connection broke ({type(error).__name__}: {error})"


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log file, with its name; says so if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * count))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
    except OSError as error:
        return f"(no log: {error})"
    return f"last lines of {path}:\n  " + "\n  ".join(lines)
