"""The figures of the page against known truth, in a filled store and in the spool."""

from __future__ import annotations

import datetime as dt
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.exc import OperationalError

from loop_pipeline.gateway.admin.figures.live_bill import Rent
from loop_pipeline.gateway.admin.figures.live_numbers import COUNTING
from loop_pipeline.gateway.admin.figures.page_fields import LiveNumbers
from loop_pipeline.gateway.admin.live_view import LiveView
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.store.tables import HoldRow
from loop_pipeline.whole_file import write_whole
from loop_pipeline_tests.gateway.admin.live_store import beside, line, policy, spool, store

NOW = dt.datetime.now(dt.UTC)
RENT = Rent(hourly_usd=0.0, servers=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home-of-the-page"
    (folder / "gateway").mkdir(parents=True)
    write_whole(folder / "gateway" / "policy.json", policy().to_text())
    return folder


def look(view: LiveView) -> LiveNumbers:
    """The figures once the store has been counted."""
    until = time.monotonic() + 60
    while (found := view.numbers("alice")).counted_at is None and time.monotonic() < until:
        assert found.problems == [COUNTING], found.problems
    return found


def traffic() -> list[dict]:
    """60 requests of this minute: 30 by the student (24 of them checked, one wrong), 10 escalated,
    20 by the frontier.
    """
    lines = [line(f"e{i}", NOW, "escalated") for i in range(10)]
    lines += [line(f"f{i}", NOW, "frontier") for i in range(20)]
    for i in range(30):
        main = line(f"s{i}", NOW, "student", route={"shadow": i < 24})
        lines.append(main)
        if i < 24:
            lines.append(beside(main, "refund" if i == 0 else "delivery"))
    return lines


def check(found: LiveNumbers) -> None:
    """What the sixty requests come to."""
    today = found.today
    assert (today.requests, today.student, today.escalated, today.frontier) == (60, 30, 10, 20)
    assert found.month.requests == 60
    assert [(m.student, m.escalated, m.frontier) for m in found.minutes if m.student] == [
        (30, 10, 20)
    ]
    bill = today.bill
    # 30 answers of the frontier went out, 24 were asked for beside the student's.
    assert bill.paid_usd == pytest.approx(54 * 0.01)
    # All requests are alike: each would have cost one cent.
    assert bill.all_frontier_usd == pytest.approx(60 * 0.01)
    assert bill.low_usd == pytest.approx(0.6)
    assert bill.high_usd == pytest.approx(0.6)


def test_a_stored_month_has_the_figures_that_went_in(engine: Engine, home: Path) -> None:
    store(engine, traffic())
    found = look(LiveView(home, lambda: engine, RENT))
    check(found)
    promise = found.promise
    assert promise is not None
    assert (promise.checked, promise.agreed) == (24, 23)
    assert (promise.low, promise.high) == pytest.approx(clopper_pearson(23, 24))
    assert promise.coverage == pytest.approx(30 / 60)
    # 40 requests of a group of which half are certified, 20 of one that is the frontier's.
    assert promise.certified_coverage == pytest.approx(40 * 0.5 / 60)
    assert promise.state == "kept"
    orders, letters = found.groups
    assert (orders.name, orders.requests, orders.coverage) == ("orders", 40, 0.75)
    assert (letters.name, letters.requests, letters.checked) == ("letters", 20, 0)
    assert len(found.newest) == 50
    assert found.spool.traces == 0


def test_what_is_not_counted_yet_is_said_and_the_page_does_not_wait_for_it(
    home: Path, engine: Engine
) -> None:
    go_on = threading.Event()

    def slow() -> Engine:
        go_on.wait(60)
        return engine

    view = LiveView(home, slow, RENT)
    store(engine, traffic())
    early = view.numbers("alice")
    assert (early.problems, early.counted_at, early.today.requests) == ([COUNTING], None, 0)
    go_on.set()
    found = look(view)
    assert found.problems == []
    check(found)


def test_the_spool_gives_the_same_figures_while_the_store_is_down(home: Path) -> None:
    def down() -> Engine:
        raise OperationalError("connect", None, Exception("connection refused"))

    view = LiveView(home, down, RENT)
    spool(home / "spool", traffic())
    found = view.numbers("alice")
    assert (found.today.student, found.today.escalated, found.today.frontier) == (30, 10, 20)
    assert found.today.bill.paid_usd == pytest.approx(0.54)
    assert found.spool.traces == 60
    assert len(found.newest) == 50
    time.sleep(0.1)
    assert "store cannot be read" in view.numbers("alice").problems[0]
    one = view.request("s0")
    assert one is not None
    assert [other["agrees"] for other in one["others"]] == [False]


def test_a_request_counts_once_before_during_and_after_it_is_shipped(
    engine: Engine, home: Path
) -> None:
    view = LiveView(home, lambda: engine, RENT)
    lines = traffic()
    first = spool(home / "spool", lines[:40], sealed=True)
    second = spool(home / "spool", lines[40:])
    sealed = first.path.with_suffix(".jsonl")
    seen = []
    for step in range(3):
        if step == 1:
            store(engine, lines[:40])
        if step == 2:
            sealed.unlink()
        view._count_due = view._looked = 0.0
        found = look(view)
        view._counting.join()  # pyright: ignore[reportOptionalMemberAccess]
        found = view.numbers("alice")
        seen.append((found.today.requests, found.spool.traces))
    assert [requests for requests, _ in seen] == [60, 60, 60]
    assert seen[0][1] == 60
    assert seen[1][1] == seen[2][1] < 60
    assert second.size


def test_a_request_is_listed_within_a_second(engine: Engine, home: Path) -> None:
    view = LiveView(home, lambda: engine, RENT)
    segment = spool(home / "spool", [line("early", NOW, "frontier")])
    assert [r["prompt_id"] for r in look(view).newest] == ["early"]
    later = NOW + dt.timedelta(seconds=1)
    spool(home / "spool", [line("late", later, "student")])
    time.sleep(0.5)
    assert [r["prompt_id"] for r in view.numbers("alice").newest] == ["late", "early"]
    assert segment.size


def test_the_rent_runs_from_the_first_answer_of_a_student(engine: Engine, home: Path) -> None:
    began = NOW - dt.timedelta(minutes=30)
    store(engine, [line("s", began, "student"), line("f", began, "frontier")])
    bill = look(LiveView(home, lambda: engine, Rent(hourly_usd=2.0, servers=3))).month.bill
    # Half an hour and the time of the test, unless the month began within it.
    assert bill.rent_hours <= (dt.datetime.now(dt.UTC) - began).total_seconds() / 3600
    assert bill.student_usd == pytest.approx(bill.rent_hours * 2.0 * 3 * 1.35)
    assert bill.paid_usd == pytest.approx(bill.student_usd + bill.frontier_usd)


@pytest.mark.parametrize("stored", [True, False])
def test_what_is_unpriced_is_named_and_no_saving_is_claimed(
    engine: Engine, home: Path, stored: bool
) -> None:
    unknown = [
        line(f"u{n}", NOW, "frontier", cost_usd=None, model="own-9", served_model="own-9")
        for n in range(3)
    ]
    cut = line("c", NOW, "frontier", cost_usd=None, finish_reason="broken")
    cut |= {"tokens_in": 0, "tokens_out": 0}
    lines = [*traffic(), *unknown, cut]
    if stored:
        store(engine, lines)
    else:
        spool(home / "spool", lines)
    view = LiveView(home, lambda: engine, RENT)
    bill = look(view).today.bill
    assert bill.unpriced == {"own-9": 3}
    assert bill.paid_usd == pytest.approx(54 * 0.01), "and not a cent for the others"
    assert (bill.all_frontier_usd, bill.saved_share, bill.saved_high) == (None, None, None)
    assert "3 of 88 answers are unpriced (own-9 3): name its price" in bill.why
    for name in ("u1", "c"):
        shown = view.request(name)
        assert shown is not None
        assert shown["cost_usd"] is None, "and not 0"


def test_a_broken_answer_of_the_frontier_checks_nothing(engine: Engine, home: Path) -> None:
    main = line("s", NOW, "student", route={"shadow": True})
    store(engine, [main, beside(main, "del", finish_reason="broken")])
    found = look(LiveView(home, lambda: engine, RENT))
    assert found.promise is not None
    assert (found.promise.checked, found.promise.state) == (0, "nothing served")


def test_rows_that_did_not_come_through_the_gateway_are_not_counted(
    engine: Engine, home: Path
) -> None:
    store(engine, [line("f", NOW, "frontier"), line("old", NOW, "frontier") | {"route": None}])
    assert look(LiveView(home, lambda: engine, RENT)).month.requests == 1


def test_held_groups_come_with_their_reasons(engine: Engine, home: Path) -> None:
    hold = {"hold_id": "h", "group_id": "g1", "at": NOW, "reason": "complaints", "actor": "bob"}
    with engine.begin() as connection:
        connection.execute(insert(HoldRow).values(**hold))
    write_whole(home / "gateway" / "holds.json", '{"groups": ["g1", "g9"]}')
    found = look(LiveView(home, lambda: engine, RENT))
    assert [(h.name, h.reason) for h in found.holds] == [("orders", "complaints"), ("g9", "")]
    assert [group.held for group in found.groups if group.group_id == "g1"] == ["complaints"]


def test_without_traffic_policy_or_store_there_are_no_figures_and_no_error(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'none.db'}")
    found = LiveView(tmp_path, lambda: engine, RENT).numbers("alice")
    assert (found.month.requests, found.policy, found.newest) == (0, None, [])


def test_a_refused_policy_is_said(engine: Engine, home: Path) -> None:
    write_whole(home / "gateway" / "policy.json", policy().to_text().replace("orders", "others"))
    assert "policy refused" in look_problem(LiveView(home, lambda: engine, RENT))


def look_problem(view: LiveView) -> str:
    return view.numbers("alice").problems[0]


def test_torn_and_foreign_lines_do_not_stop_the_page(engine: Engine, home: Path) -> None:
    segment = spool(home / "spool", [line("a", NOW, "frontier")])
    for raw in (b"[1]\n", b'{"messages": 1}\n', b"{\n", b'"x"\n', b"\xff\n", b"null\n"):
        segment.append(raw)
    spool(home / "spool", [line("b", NOW, "frontier")]).append(b'{"half')
    found = look(LiveView(home, lambda: engine, RENT))
    assert sorted(r["prompt_id"] for r in found.newest) == ["a", "b"]
