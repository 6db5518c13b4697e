"""What does the gateway lose when something dies, and how much memory does it take meanwhile?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.gateway_faults

Real processes on loopback before a canned upstream. *Killed*: under load of 16 clients the worker
is killed with SIGKILL after a random time, again and again; an answer counts as received when the
client has all of its bytes, and every such answer must be a trace once the shipper has caught up.
*Database down*: the store is a PostgreSQL address where nothing listens. *Vanished*: 500 clients
close their connections while the upstream is working for them. *Swapped*: a new policy every half
second under load. *Backlog*: captured traces are shipped while 200 more a second are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pandas as pd
from sqlalchemy import select

from benchmarks.decision import fitted, prompts
from benchmarks.gateway_targets import ADAPTER, Target, ours, upstream
from benchmarks.record import Start, record, table
from loop_pipeline.http_calls.local_server import free_port
from loop_pipeline.installation_secret import installation_secret
from loop_pipeline.routing.policy import seal
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.store.database import open_store
from loop_pipeline.store.policies import activate_policy
from loop_pipeline.store.tables import TraceRow

KILLS = int(os.environ.get("KILLS", "20"))
REQUESTS = int(os.environ.get("REQUESTS", "20000"))
VANISHING = 500
BACKLOG = int(os.environ.get("BACKLOG", "1000000"))
# Lines of a segment of the backlog, captured traces that it is made of, and when to give up.
SEGMENT = 10_000
CAPTURED = 2_000
LONGEST_S = 1_800.0
ID_FIELD = b'"prompt_id":"'
CLIENTS = 16
TEXT = "Summarise the refund policy in one sentence, please."


def asked(target: Target, text: str = TEXT) -> dict[str, Any]:
    """A chat request."""
    return {"model": target.model, "messages": [{"role": "user", "content": text}]}


async def drive(
    target: Target,
    stop: Callable[[int], bool],
    texts: list[str] | None = None,
    clients: int = CLIENTS,
) -> tuple[list[str], int]:
    """Send requests until told to stop; prompt ids of whole answers, and how many failed."""
    whole: list[str] = []
    failed = sent = 0

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal failed, sent
        while not stop(sent):
            sent += 1
            body = asked(target, texts[sent % len(texts)] if texts else TEXT)
            try:
                async with session.post(target.chat, json=body) as reply:
                    await reply.read()
                    if reply.status == 200:
                        whole.append(reply.headers["x-loop-prompt-id"])
                    else:
                        failed += 1
            except aiohttp.ClientError:
                failed += 1
                await asyncio.sleep(0.05)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session) for _ in range(clients)))
    return whole, failed


def stored(home: Path) -> set[str]:
    """Prompt ids in the store of a home, after the shipper has emptied the spool."""
    command = [sys.executable, "-m", "loop_pipeline.cli.main", "ship", "--once"]
    done = subprocess.run(
        command,
        env=os.environ | {"LOOP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"loop ship: {done.stderr[-500:]}")
    engine = open_store(f"sqlite:///{home / 'loop.db'}")
    with engine.connect() as connection:
        found = set(connection.scalars(select(TraceRow.prompt_id)))
    engine.dispose()
    return found


def killed(folder: Path, frontier: str) -> dict[str, Any]:
    """Kill workers under load; answers that were received and are no traces."""
    rng = random.Random(0)
    with ours(folder, frontier) as target:
        end = [0.0]
        kills = 0
        whole: list[str] = []
        failed = 0
        for _ in range(KILLS):
            end[0] = time.monotonic() + 1.5

            async def round_() -> tuple[list[str], int]:
                load = asyncio.create_task(drive(target, lambda _n: time.monotonic() > end[0]))
                await asyncio.sleep(rng.uniform(0.2, 1.0))
                for pid in target.pids()[1:]:
                    if _is_worker(pid):
                        os.kill(pid, 9)
                return await load

            got, missed = asyncio.run(round_())
            whole += got
            failed += missed
            kills += 1
            _ready(target)
        home = target.home
    assert home is not None
    traces = stored(home)
    return {
        "what": f"workers killed under load, {kills} times",
        "answers received whole": len(whole),
        "without a trace": len(set(whole) - traces),
        "failed at the client": failed,
    }


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _ready(target: Target) -> None:
    url = target.url.removesuffix("/v1") + "/health/ready"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return
        time.sleep(0.05)
    raise RuntimeError("the gateway did not come back within 30 s")


def database_down(folder: Path, frontier: str) -> dict[str, Any]:
    """Memory over many requests while no store can be reached, and what is lost."""
    nowhere = f"postgresql+psycopg2://loop:x@127.0.0.1:{free_port()}/loop"
    with ours(folder, frontier) as target:  # once with a store, whose keys it copies
        home = target.home
    with ours(folder, frontier, home=home, LOOP_DATABASE_URL=nowhere) as target:
        warm, _ = asyncio.run(drive(target, lambda n: n >= 1_000))
        before = target.memory_mb()
        whole, failed = asyncio.run(drive(target, lambda n: n >= REQUESTS))
        after = target.memory_mb()
        home = target.home
    assert home is not None
    traces = stored(home)
    return {
        "what": f"database down, {REQUESTS:,} requests",
        "answers received whole": len(whole),
        "without a trace": len((set(whole) | set(warm)) - traces),
        "failed at the client": failed,
        "memory before": before,
        "memory after": after,
        "memory grown": after - before,
    }


def vanished(folder: Path) -> dict[str, Any]:
    """Clients that go while the upstream works for them: how soon it is free again."""
    with upstream(folder, DELAY_MS="20000") as slow, ours(folder, slow.url) as target:

        async def leave() -> float:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=VANISHING)
            ) as session:
                tasks = [
                    asyncio.create_task(_post(session, target, streamed=i % 2 == 0))
                    for i in range(VANISHING)
                ]
                while await _at_work(slow) < VANISHING:
                    await asyncio.sleep(0.05)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            start = time.monotonic()
            while await _at_work(slow) > 0 and time.monotonic() - start < 30:
                await asyncio.sleep(0.02)
            return time.monotonic() - start

        seconds = asyncio.run(leave())
    what = f"{VANISHING} clients vanish at once"
    return {"what": what, "upstream free after": seconds, "failed at the client": 0}


async def _post(session: aiohttp.ClientSession, target: Target, *, streamed: bool) -> None:
    async with session.post(target.chat, json=asked(target) | {"stream": streamed}) as reply:
        await reply.read()


async def _at_work(target: Target) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(target.url.removesuffix("/v1") + "/slots") as reply,
    ):
        return (await reply.json())["at_work"]


def swapped(folder: Path, frontier: str) -> dict[str, Any]:
    """New policies under load: requests that fail."""
    bundle, _ = fitted(120)
    texts = prompts(200, 1, 120)
    with ours(folder, frontier, chars=120) as target:
        assert target.home is not None
        engine = open_store(f"sqlite:///{target.home / 'loop.db'}")
        end = time.monotonic() + 12
        swaps = 0

        async def swap() -> None:
            nonlocal swaps
            while time.monotonic() < end - 1:
                swaps += 1
                fields = bundle.model_dump(exclude={"sha256"}) | {"parent": f"{swaps:064x}"}
                changed = seal(**fields)
                with engine.begin() as connection:
                    text = signed(changed, installation_secret(target.home))
                    activate_policy(
                        connection, sha256=changed.sha256, bundle=text, checkpoint_id=None
                    )
                await asyncio.sleep(0.5)

        async def both() -> tuple[list[str], int]:
            load = asyncio.create_task(drive(target, lambda _n: time.monotonic() > end, texts))
            await swap()
            return await load

        whole, failed = asyncio.run(both())
        engine.dispose()
    return {
        "what": f"{swaps} policies put in force under load",
        "answers received whole": len(whole),
        "failed at the client": failed,
    }


def backlog(folder: Path, frontier: str) -> dict[str, Any]:
    """A backlog is shipped while more traces come in."""
    # What waits may be more than a spool takes by default; nothing is to be dropped here.
    with ours(folder, frontier, LOOP_SPOOL_MAX_BYTES=str(16 * 1024**3)) as target:
        assert target.home is not None
        asyncio.run(drive(target, lambda n: n >= CAPTURED))
        spool = target.home / "spool"
        time.sleep(6)
        lines = [line for path in spool.glob("*.jsonl") for line in path.read_bytes().splitlines()]
        for part in range(BACKLOG // SEGMENT):
            _write_segment(spool, part, lines)
        command = [sys.executable, "-m", "loop_pipeline.cli.main", "ship"]
        env = os.environ | {"LOOP_HOME": str(target.home)}
        log = (folder / "ship.log").open("wb")
        shipper = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        sent, left = asyncio.run(_trickle(target, spool))
        shipper.terminate()
        shipper.wait(60)
        home = target.home
    seconds = left[-1][0]
    found = len(stored(home))
    return {
        "what": f"a backlog of {BACKLOG:,} traces, {sent / seconds:.0f} a second come in",
        "seconds": seconds,
        "traces a second": (BACKLOG + sent) / seconds,
        "slowest tenth, traces a second": _slowest_tenth(left),
        "without a trace": BACKLOG + CAPTURED + sent - found,
    }


def _write_segment(spool: Path, part: int, lines: list[bytes]) -> None:
    """A sealed segment of captured lines under ids of its own."""
    rows = []
    for i in range(SEGMENT):
        line = lines[i % len(lines)]
        start = line.index(ID_FIELD) + len(ID_FIELD)
        end = line.index(b'"', start)
        rows.append(b"%bbacklog-%d-%d%b" % (line[:start], part, i, line[end:]))
    (spool / f"00000000-{part:06d}-0.jsonl").write_bytes(b"\n".join(rows) + b"\n")


async def _trickle(target: Target, spool: Path) -> tuple[int, list[tuple[float, int]]]:
    """Send 200 requests a second until the backlog is gone: how many, and what was left when."""
    start, sent = time.monotonic(), 0
    left = [(0.0, BACKLOG)]
    async with aiohttp.ClientSession() as session:
        while left[-1][1] and left[-1][0] < LONGEST_S:
            began = time.monotonic()
            await asyncio.gather(*(_post(session, target, streamed=False) for _ in range(20)))
            sent += 20
            waits = SEGMENT * sum(1 for _ in spool.glob("00000000-*.jsonl"))
            left.append((time.monotonic() - start, waits))
            await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
    return sent, left


def _slowest_tenth(left: list[tuple[float, int]]) -> float:
    """Of the ten parts of a backlog, the one that took longest: traces of it a second."""
    marks = [BACKLOG * (10 - part) // 10 for part in range(11)]
    reached = [next((at for at, waits in left if waits <= mark), math.inf) for mark in marks]
    return BACKLOG / 10 / max(b - a for a, b in pairwise(reached))


def main(*words: str) -> None:
    """Print a row a fault, and write them down."""
    start = Start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with upstream(folder, ADAPTERS=ADAPTER) as direct:
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "killed": lambda: killed(folder, direct.url),
                "database": lambda: database_down(folder, direct.url),
                "vanished": lambda: vanished(folder),
                "swapped": lambda: swapped(folder, direct.url),
                "backlog": lambda: backlog(folder, direct.url),
            }
            rows = []
            for part in words or parts:
                rows.append(parts[part]())
                sys.stdout.write(f"{rows[-1]}\n")
    sys.stdout.write(pd.DataFrame(rows).round(3).to_string(index=False) + "\n")
    units = dict.fromkeys(("memory before", "memory after", "memory grown"), "MB")
    units |= {"upstream free after": "s", "seconds": "s"}
    record(__file__, __doc__, [table("Faults under load", rows, units)], start)


if __name__ == "__main__":
    main(*sys.argv[1:])
