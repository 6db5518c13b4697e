"""Runs stand-in processes under the supervisor: ``standins.py HOME SERVICES`` (a JSON list)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from loop_pipeline.processes.keep_running import keep_running
from loop_pipeline.processes.service import Service


def services() -> list[Service]:
    return [
        Service(about="a stand-in", environment=dict(os.environ), **given)
        for given in json.loads(sys.argv[2])
    ]


if __name__ == "__main__":
    try:
        keep_running(Path(sys.argv[1]), "loop up", services, when_ready=lambda _: "try this")
    except RuntimeError as error:
        sys.exit(f"loop: {error}")
