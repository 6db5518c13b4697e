"""Public sets as traffic: real requests, whose gold labels stand in for a frontier's answers.

Not here: the sets themselves; nothing of them is shipped.

Nothing of the sets is shipped; they are read from the folder that ``LOOP_BENCH_DATA`` names.
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import random
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loop_pipeline.costs.token_price import Price, Tokens

PRICED_AS = "claude-opus-5"
PRICED_AT, PRICES_DATE = Price(5.0, 25.0), "2026-11"
DAYS = 7
FIRST_DAY = dt.date(2026, 9, 1)
# Of the requests, for live traffic: neither trained on nor certified on.
UNSEEN_SHARE = 0.2


@dataclass(frozen=True)
class _Set:
    folder: str
    file: str
    # Of the upstream bytes, uncompressed; of a tar, its files by name, one after another.
    sha256: str
    origin: str
    rows: int
    system: str


SETS = {
    "headlines": _Set(
        "frugalgpt_headlines",
        "train.csv.gz",
        "b69ed0c5443eef90525ad9595955d3a60a4d4950cf50760562363677801f1ee4",
        "stanford-futuredata/FrugalGPT @ 2b23e6acbd4b39f71912816640dcc59e45aa4b5e: "
        "data/HEADLINES/train.csv",
        5_000,
        "Which way does the gold price move?",
    ),
    "clinc150": _Set(
        "clinc150",
        "data_full.json.gz",
        "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
        "clinc/oos-eval @ 828f8093932c8fe6ca7936c3d2e52903b1c523de: data/data_full.json",
        22_500,
        "Classify the request.",
    ),
    "banking77": _Set(
        "banking77",
        "train.csv.gz",
        "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
        "PolyAI-LDN/task-specific-datasets @ 57ec275d8078af65b7731c2a98be812d844a6d6b: "
        "banking_data/train.csv",
        10_003,
        "Classify the request.",
    ),
    "nlupp": _Set(
        "nlupp_banking",
        "banking_folds.tar.gz",
        "65cc350694b03f28ed505e97e312703c266884c24b858654bea2a7aa39e3fb88",
        "PolyAI-LDN/task-specific-datasets @ 57ec275d8078af65b7731c2a98be812d844a6d6b: "
        "nlupp/data/banking (20 files)",
        2_071,
        "Tag the request.",
    ),
}
SetName = Literal["headlines", "clinc150", "banking77", "nlupp"]


def load_set(name: SetName | str, folder: Path) -> list[tuple[str, str]]:
    """Read a public set.

    ``headlines``: gold news, does the price go up, down, stay (neutral) or is there none (Sinha and
    Khandait 2020, as FrugalGPT split it). ``clinc150``: the in-scope rows of all three splits of
    the full variant (Larson et al. 2019). ``banking77``: the training part (Casanueva et al. 2020).
    ``nlupp``: the banking domain of NLU++, its intents as tags (Casanueva et al. 2022).

    Args:
        name: of the set.
        folder: what ``LOOP_BENCH_DATA`` names; holds a folder for each set.

    Returns:
        (text, gold label) in upstream order.

    Raises:
        ValueError: no such set, or the file is not the upstream one; names file and checksums.
        FileNotFoundError: the set is not there; one line with where to get it.
    """
    if name not in SETS:
        raise ValueError(f"no set {name!r}; known: {', '.join(SETS)}")
    if name == "nlupp":
        return [
            (row["text"], ", ".join(sorted(row.get("intents", []))) or "none")
            for part in _members(SETS[name], folder)
            for row in json.loads(part)
        ]
    text = _raw(SETS[name], folder).decode()
    if name == "clinc150":
        parts = json.loads(text)
        return [(row[0], row[1]) for part in ("train", "val", "test") for row in parts[part]]
    rows = csv.reader(io.StringIO(text, newline=""))
    if name == "banking77":
        next(rows)
        return [(row[0], row[1]) for row in rows]
    return [(row[0].removeprefix("Q: ").removesuffix("\nA:"), row[1]) for row in rows]


def write_traffic(
    name: SetName | str,
    folder: Path,
    out: Path,
    *,
    first_day: dt.date = FIRST_DAY,
    seed: int = 7,
    unseen: Path | None = None,
) -> dict[str, Any]:
    """Write a public set in the import format, one request at a time.

    Args:
        name: of the set.
        folder: what ``LOOP_BENCH_DATA`` names.
        out: file of the traffic; replaced if it is there. Same arguments, same bytes.
        first_day: UTC day of the first request; the others follow at an even pace over a week.
        seed: of the order of the requests.
        unseen: file of the last fifth of the requests, in the same form, which then are not in
            ``out``; None: all are.

    Returns:
        ``name``, ``traces``, ``labels`` (their number) and ``notes``: sentences that everything
        which shows figures of this traffic has to show with them.

    Raises:
        ValueError, FileNotFoundError: as ``load_set``.
    """
    rows = load_set(name, folder)
    labels = _labels(name, rows)
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    start = dt.datetime.combine(first_day, dt.time(), dt.UTC)
    verdict = {"kind": "review", "value": 1, "actor": f"{name} gold label"}
    kept = len(order) - round(len(order) * UNSEEN_SHARE) if unseen else len(order)
    with contextlib.ExitStack() as files:
        paths = [out, unseen] if unseen else [out]
        parts = [
            files.enter_context(path.open("w", encoding="utf-8", newline="\n")) for path in paths
        ]
        for place, number in enumerate(order):
            ts = start + dt.timedelta(seconds=place * DAYS * 86_400 // len(rows))
            moment = {"ts": ts.isoformat()}
            line = {"prompt_id": f"{name}-{number:05d}", "app": name} | moment
            line |= _trace(name, *rows[number])
            more = {
                "contract": {"kind": "tags" if name == "nlupp" else "label", "labels": labels},
                "feedback": [verdict | moment],
            }
            parts[place >= kept].write(json.dumps(line | more) + "\n")
    return {
        "name": name,
        "traces": kept,
        "labels": len(labels),
        "notes": [
            f"The {kept:,} requests are the real ones of {SETS[name].origin}.",
            "The frontier's recorded answers are the set's gold labels, and so are the reviews.",
            f"Times and order of the requests are assigned: shuffled, evenly over {DAYS} days.",
            "No latency was recorded, so none is given.",
            "Tokens are estimated at four characters each; costs are what they would have been at "
            f"the list price of {PRICED_AS} ({PRICES_DATE}).",
        ],
    }


def _labels(name: str, rows: list[tuple[str, str]]) -> list[str]:
    if name != "nlupp":
        return sorted({label for _, label in rows})
    return sorted({tag for _, tags in rows for tag in tags.split(", ")} - {"none"})


def _raw(source: _Set, folder: Path) -> bytes:
    """The uncompressed file, checked."""
    path, packed = _read(source, folder)
    try:
        raw = gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    _check(source, path, raw)
    return raw


def _members(source: _Set, folder: Path) -> list[bytes]:
    """The files of an archive by name, checked; how they were packed does not matter."""
    path, packed = _read(source, folder)
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            files = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
            parts = [part.read() for m in files if (part := archive.extractfile(m))]
    except (EOFError, OSError, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole tar file: {error}") from error
    _check(source, path, b"".join(parts))
    return parts


def _read(source: _Set, folder: Path) -> tuple[Path, bytes]:
    path = folder / source.folder / source.file
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: set LOOP_BENCH_DATA to the folder that holds {source.folder}/, "
            f"with {source.file} made from {source.origin}"
        )
    return path, path.read_bytes()


def _check(source: _Set, path: Path, raw: bytes) -> None:
    found = hashlib.sha256(raw).hexdigest()
    if found != source.sha256:
        raise ValueError(
            f"{path}: the sha256 of the uncompressed bytes is {found}, expected {source.sha256}; "
            f"get it again from {source.origin}"
        )


def _trace(name: str, text: str, label: str) -> dict[str, Any]:
    system = SETS[name].system
    tokens_in, tokens_out = max(1, (len(system) + len(text)) // 4), max(1, len(label) // 4)
    return {
        "task": name,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
        "output": label,
        "producer": "frontier",
        "model": f"gold labels of {name}",
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": round(PRICED_AT.cost(Tokens(tokens_in, tokens_out)) or 0.0, 9),
        "finish_reason": "stop",
        "simulated": False,
    }
