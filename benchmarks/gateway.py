"""What does the gateway cost a request, beside other gateways and beside none?

    LOOP_BENCH_DATA=../shared/data LOOP_BENCH_RIVALS=PYTHON LOOP_BENCH_PORTKEY=PATH
    python -m benchmarks.gateway

Everything runs on loopback and shares these cores: wrk with one thread, a canned upstream that
answers at once with 462 bytes, and one gateway at a time. All take turns, three rounds, medians.
Ours, LiteLLM and Portkey answer in one process on one core, as they do unless told otherwise;
TensorZero's process uses every core, and so do the two workers of ours that share a port. The chat
request has 180 bytes; where routing is on, prompts of CLINC150 of the named length go through a
policy fitted to such prompts, and certified ones are answered by the canned student. Capture is on
in ours, off in all others. *Added* is the median latency minus that of no gateway at the same
concurrency. Streams have 40 chunks; an aiohttp client reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pandas as pd

from benchmarks.decision import prompts
from benchmarks.gateway_targets import (
    ADAPTER,
    PORTKEY_FOLDER,
    RIVALS_PYTHON,
    Target,
    litellm,
    median,
    ours,
    portkey,
    tensorzero,
    upstream,
)
from benchmarks.record import Start, record, table

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "10"))
CONCURRENCIES = (1, 16, 64)
LENGTHS = (120, 1_500)
STREAMS = 300
LUA = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
for name, value in string.gmatch(os.getenv("HEADERS"), "([^\\n=]+)=([^\\n]+)") do
  wrk.headers[name] = value
end
local at = 0
request = function() at = at % #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end
done = function(s, l, r)
  local e = s.errors
  io.write(string.format("RESULT rps=%.1f p50=%.3f p99=%.3f n=%d errors=%d\\n",
    s.requests / (s.duration / 1e6), l:percentile(50) / 1000, l:percentile(99) / 1000,
    s.requests, e.status + e.connect + e.read + e.timeout))
end
"""
SHORT = "Summarise the refund policy in one sentence, please."


def body(model: str, text: str, **more: Any) -> str:
    """A chat request as JSON."""
    system = {"role": "system", "content": "You are helpful."}
    messages = [{"role": "user", "content": text}]
    if text == SHORT:
        messages.insert(0, system)
    known = {"model": model, "messages": messages, "max_tokens": 64, "temperature": 0.2}
    return json.dumps(known | more, separators=(",", ":"))


def load(target: Target, texts: Sequence[str], concurrency: int, folder: Path) -> dict[str, float]:
    """Load a target with wrk for some seconds."""
    (folder / "post.lua").write_text(LUA)
    bodies = folder / "bodies.txt"
    bodies.write_text("".join(body(target.model, text) + "\n" for text in texts))
    headers = {"Authorization": "Bearer none"} | target.headers
    told = {"BODIES": str(bodies), "HEADERS": "\n".join(f"{k}={v}" for k, v in headers.items())}
    command = ["wrk", "-t1", f"-c{concurrency}", f"-d{SECONDS}s", "--timeout", "30s"]
    command += ["-s", str(folder / "post.lua"), target.chat]
    before = target.cpu_s()
    run = subprocess.run(
        command, env=os.environ | told, capture_output=True, text=True, check=False
    )
    spent = target.cpu_s() - before
    found = re.search(r"RESULT (.*)", run.stdout)
    if found is None:
        raise RuntimeError(f"{target.name}: {(run.stdout + run.stderr)[-300:]}")
    figures = {k: float(v) for k, v in (pair.split("=") for pair in found[1].split())}
    return figures | {"cpu": 1000 * spent / max(1.0, figures["n"])}


async def stream(target: Target, concurrency: int) -> dict[str, float]:
    """Read streams; milliseconds to the first event, streams a second, and how many broke."""
    firsts: list[float] = []
    broken = 0
    headers = {"Authorization": "Bearer none", "Content-Type": "application/json"}
    data = body(target.model, SHORT, stream=True)

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal broken
        start = time.perf_counter()
        async with session.post(target.chat, data=data, headers=headers | target.headers) as reply:
            first = await reply.content.readany()
            firsts.append((time.perf_counter() - start) * 1000)
            rest = await reply.content.read()
            broken += not (first + rest).rstrip().endswith(b"[DONE]")

    async def many(session: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            await one(session)

    async with aiohttp.ClientSession() as session:
        await many(session, 10)
        firsts.clear()
        start = time.perf_counter()
        share = STREAMS // concurrency
        await asyncio.gather(*(many(session, share) for _ in range(concurrency)))
        seconds = time.perf_counter() - start
    p50, p99 = np.percentile(firsts, [50, 99])
    each = share * concurrency / seconds
    return {"first p50": p50, "first p99": p99, "streams a second": each, "broken": broken}


def measure(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """All targets in turn, and the rivals that could not be started."""
    absent: list[str] = []
    texts = {chars: prompts(500, 1, chars) for chars in LENGTHS}
    with contextlib.ExitStack() as open_:
        direct = open_.enter_context(upstream(folder, ADAPTERS=ADAPTER))
        frontier = direct.url
        targets = [(direct, [SHORT]), (open_.enter_context(ours(folder, frontier)), [SHORT])]
        shared = open_.enter_context(ours(folder, frontier, LOOP_GATEWAY_WORKERS="2"))
        targets.append((shared, [SHORT]))
        for chars in LENGTHS:
            routed = open_.enter_context(ours(folder, frontier, chars=chars))
            targets.append((routed, texts[chars]))
        for rival in (tensorzero, litellm, portkey):
            try:
                targets.append((open_.enter_context(rival(folder, frontier)), [SHORT]))
            except (FileNotFoundError, RuntimeError) as error:
                absent.append(str(error))
        plain: dict[tuple[str, int], list[dict[str, float]]] = {}
        streamed: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(ROUNDS):
            for concurrency in CONCURRENCIES:
                for target, own in targets:
                    key = (target.name, concurrency)
                    plain.setdefault(key, []).append(load(target, own, concurrency, folder))
                    if concurrency < 64 and own == [SHORT]:
                        got = asyncio.run(stream(target, concurrency))
                        streamed.setdefault(key, []).append(got)
        kinds = {target.name: target.kind for target, _ in targets}
    return rows(plain, kinds), stream_rows(streamed, kinds), absent


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median([run[name] for run in runs]) for name in runs[0]}


def rows(
    found: dict[tuple[str, int], list[dict[str, float]]], kinds: dict[str, str]
) -> list[dict[str, Any]]:
    """A row a target and concurrency, with what it adds to no gateway at all."""
    lines = []
    for (name, concurrency), runs in found.items():
        middle = _medians(runs)
        base = _medians(found["direct", concurrency])
        rivals = {
            n: _medians(found[n, concurrency])["rps"]
            for n in ("TensorZero", "LiteLLM")
            if (n, concurrency) in found
        }
        row = {
            "target": name,
            "kind": kinds[name],
            "concurrency": concurrency,
            "requests a second": middle["rps"],
            "p50": middle["p50"],
            "p99": middle["p99"],
            "added p50": middle["p50"] - base["p50"],
            "processor time a request": middle["cpu"],
            "errors": sum(run["errors"] for run in runs),
        }
        row |= {f"times {n}": middle["rps"] / rps for n, rps in rivals.items()}
        lines.append(row)
    return lines


def stream_rows(
    found: dict[tuple[str, int], list[dict[str, float]]], kinds: dict[str, str]
) -> list[dict[str, Any]]:
    """The same of streams."""
    lines = []
    for (name, concurrency), runs in found.items():
        middle, base = _medians(runs), _medians(found["direct", concurrency])
        lines.append(
            {
                "target": name,
                "kind": kinds[name],
                "concurrency": concurrency,
                "first event p50": middle["first p50"],
                "first event p99": middle["first p99"],
                "added first event p50": middle["first p50"] - base["first p50"],
                "streams a second": middle["streams a second"],
                "broken": sum(run["broken"] for run in runs),
            }
        )
    return lines


def rival_releases() -> list[str]:
    """Names and versions of the rivals' packages."""
    python = os.environ.get(RIVALS_PYTHON)
    if not python:
        return []
    ask = "from importlib.metadata import version as v; print('LiteLLM', v('litellm'));"
    ask += "print('TensorZero', v('tensorzero'))"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    package = (
        Path(os.environ.get(PORTKEY_FOLDER, "")) / "node_modules/@portkey-ai/gateway/package.json"
    )
    portkey_ = (
        [f"Portkey {json.loads(package.read_text())['version']}"] if package.is_file() else []
    )
    return [*found.stdout.split("\n")[:2], *portkey_]


def main() -> None:
    """Print both tables, and write them down."""
    start = Start()
    with tempfile.TemporaryDirectory() as folder:
        lines, streams, absent = measure(Path(folder))
    for text in absent:
        sys.stderr.write(f"left out: {text}\n")
    for part in (lines, streams):
        sys.stdout.write(pd.DataFrame(part).round(3).to_string(index=False) + "\n\n")
    units = dict.fromkeys(
        ("p50", "p99", "added p50", "processor time a request", "first event p50"), "ms"
    ) | dict.fromkeys(("first event p99", "added first event p50"), "ms")
    names = {line["target"] for line in lines}
    rivals = [release for release in rival_releases() if release.split()[0] in names]
    tables = [table("Chat completions, one gateway at a time", lines, units)]
    tables += [table("Streams of 40 chunks", streams, units)]
    record(
        __file__,
        __doc__,
        tables,
        start,
        rivals=rivals,
        packages=["uvicorn", "uvloop", "aiohttp", "starlette"],
        variables=[RIVALS_PYTHON, PORTKEY_FOLDER],
        notes=[f"Left out: {text}" for text in absent],
    )


if __name__ == "__main__":
    main()
