"""What a home is doing, as far as can be seen from outside: processes, traffic, what waits.

Not here: how it is printed (``status_text.py``). Nothing here changes anything, and whatever is
away is said and left out: this is read when something is wrong.
"""

from __future__ import annotations

import datetime as dt
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from loop_pipeline.processes.state_file import read_state
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.holds import held_groups
from loop_pipeline.store.policies import active_policy
from loop_pipeline.store.tables import AlertRow, QuarantineRow, ReviewItemRow, TraceRow
from loop_pipeline.store.watch.alerts import open_alerts

# A store or a server that is away is not waited for.
PATIENCE_S = 3
AUTOMATION = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  schedules { name scheduleState { status } }
  sensors { name sensorState { status } } } } } }"""


@dataclass
class Spool:
    """Traces that wait for the store."""

    segments: int = 0
    bytes: int = 0
    newest: dt.datetime | None = None


@dataclass
class Stored:
    """What the store knows; ``away`` says why it does not say anything."""

    away: str = ""
    traces: int = 0
    newest: dt.datetime | None = None
    quarantined: int = 0
    reviews: int = 0
    held: int = 0
    alerts: list[str] = field(default_factory=list)
    policy: dict[str, Any] | None = None


@dataclass
class HomeStatus:
    """What a home is doing.

    ``runs`` is None if nothing does; ``automation`` (on or off by name) if Dagster does not say.
    """

    home: Path
    runs: dict[str, Any] | None
    spool: Spool
    store: Stored
    automation: dict[str, bool] | None = field(default=None)


def home_status(settings: LoopSettings) -> HomeStatus:
    """Look at everything once."""
    home = settings.home.absolute()
    runs = read_state(home)
    return HomeStatus(
        home, runs, _spool(home / "spool"), _stored(settings.store_url), _automation(runs)
    )


def _spool(folder: Path) -> Spool:
    found = Spool()
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.open")]):
        try:
            facts = path.stat()
        except FileNotFoundError:  # shipped a moment ago
            continue
        if facts.st_size:
            found.segments += 1
            found.bytes += facts.st_size
            moment = dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC)
            found.newest = max(found.newest or moment, moment)
    return found


def _stored(url: str) -> Stored:
    """Read without bringing the schema up to date: looking must not change anything."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return Stored()  # nothing was ever stored
    patience = {} if url.startswith("sqlite") else {"connect_timeout": PATIENCE_S}
    try:
        engine = create_engine(url, connect_args=patience)
    except (SQLAlchemyError, ValueError):
        return Stored(away="LOOP_DATABASE_URL is no database URL")
    try:
        return _read(engine)
    except SQLAlchemyError as error:
        words = str(getattr(error, "orig", None) or type(error).__name__).strip()
        return Stored(away=words.splitlines()[0] if words else type(error).__name__)
    finally:
        engine.dispose()


def _read(engine: Engine) -> Stored:
    day = select(func.max(TraceRow.day)).scalar_subquery()  # has an index, the time has none
    waiting = ReviewItemRow.status.in_(("open", "second"))
    with engine.connect() as connection:
        found = Stored(
            traces=connection.scalar(select(func.count()).select_from(TraceRow)) or 0,
            newest=connection.scalar(select(func.max(TraceRow.ts)).where(TraceRow.day == day)),
            quarantined=connection.scalar(select(func.count()).select_from(QuarantineRow)) or 0,
            reviews=connection.scalar(
                select(func.count()).select_from(ReviewItemRow).where(waiting)
            )
            or 0,
        )
    found.held, found.alerts = _watch(engine)
    if policy := active_policy(engine):
        student = policy["checkpoint_id"]
        found.policy = {
            "sha256": policy["sha256"],
            "since": policy["active_from"],
            "student": adapter_name(student) if student else None,
        }
    return found


def _watch(engine: Engine) -> tuple[int, list[str]]:
    """How many groups are held, and what should be known; a store of before has no alerts."""
    if not inspect(engine).has_table(AlertRow.__tablename__):
        return 0, []
    return len(held_groups(engine)), [row["text"] for row in open_alerts(engine)]


def _automation(runs: dict[str, Any] | None) -> dict[str, bool] | None:
    """Which schedules and sensors are on, as Dagster says: without it, none runs."""
    services = runs["services"] if runs else []
    url = next((s["url"] for s in services if s["name"] == "dagster"), "")
    if not url:
        return None
    asked = urllib.request.Request(  # noqa: S310  our own address
        f"{url}/graphql",
        json.dumps({"query": AUTOMATION}).encode(),
        {"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=PATIENCE_S) as reply:
            return _states(json.load(reply))
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
        return None


def _states(reply: dict[str, Any]) -> dict[str, bool]:
    found = {}
    for node in reply["data"]["repositoriesOrError"]["nodes"]:
        for kind in ("schedule", "sensor"):
            for one in node[f"{kind}s"]:
                found[one["name"]] = one[f"{kind}State"]["status"] == "RUNNING"
    return found
