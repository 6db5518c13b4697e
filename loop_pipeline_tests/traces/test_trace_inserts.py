from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import QuarantineRow, TraceRow
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.ingest import NoSecret, import_file
from loop_pipeline.traces.trace_lines import former_id
from loop_pipeline_tests.shared import secret

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
SWAPPED = [{"role": "user", "content": "Classify the request."}, {"role": "assistant"}]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"output": "refund"}, "output"),
        ({"model": "gpt-5"}, "model"),
        ({"producer": "student"}, "producer"),
        ({"context": "another source"}, "context"),
        ({"messages": SWAPPED}, "messages"),
        ({"ts": "2026-09-02T10:00:01+00:00"}, "ts"),
        ({"contract": {"kind": "text"}}, "contract_id"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"model": "a", "app": "b"}, "model, app"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in one file", "in two"])
def test_another_trace_under_a_known_id_is_quarantined_with_what_differs(
    engine: Engine, trace: Make, jsonl: Write, change: dict[str, Any], named: str, together: bool
):
    lines = [trace(1), trace(1, **change)]
    files = [lines] if together else [lines[:1], lines[1:]]
    for n, part in enumerate(files):
        import_file(engine, jsonl(*part, name=f"{n}.jsonl"))
    assert count(engine, TraceRow) == 1
    row = read(engine, QuarantineRow).iloc[0]
    assert row["reason"] == f"prompt_id p1 is already stored with another {named}"
    assert row["raw"].startswith('{"prompt_id": "p1"')


def test_figures_may_be_told_anew(engine: Engine, trace: Make, jsonl: Write):
    import_file(engine, jsonl(trace(1, tokens_in=5)), secret=secret)
    told = jsonl(trace(1, tokens_in=6, latency_ms=3, cost_usd=9, user="ann"), name="again.jsonl")
    done = import_file(engine, told, secret=secret)
    assert (done.traces_known, done.quarantined) == (1, 0)


def test_two_imports_at_once_with_other_answers_keep_one_and_name_the_rest(
    engine: Engine, trace: Make, jsonl: Write
):
    n = 3000
    files = [
        jsonl(*(trace(i, output=output) for i in range(n)), name=f"{output}.jsonl")
        for output in ("delivery", "refund")
    ]
    done: list[Imported] = []
    threads = [
        threading.Thread(target=lambda path=path: done.append(import_file(engine, path)))
        for path in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(d.traces for d in done) == n
    assert sum(d.quarantined for d in done) == n
    assert sum(d.traces_known for d in done) == 0
    assert (count(engine, TraceRow), count(engine, QuarantineRow)) == (n, n)


def test_traces_without_an_id_differ_by_who_asked_and_keep_the_id_they_had(
    engine: Engine, trace: Make, jsonl: Write
):
    nameless = [trace(1, prompt_id="", user=user) for user in ("ann", "bob")]
    path = jsonl(*nameless)
    assert import_file(engine, path, secret=secret).traces == 2
    assert import_file(engine, path, secret=secret).traces_known == 2
    # As loop_pipeline 0.1 stored it.
    old = trace(7, prompt_id="", user="ann")
    import_file(engine, jsonl(old, name="old.jsonl"), secret=secret)
    rows = read(engine, TraceRow)
    new = rows[[messages == old["messages"] for messages in rows["messages"]]].iloc[0]
    former = former_id({"ts": new["ts"], "messages": new["messages"], "output": new["output"]})
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"update traces set prompt_id = '{former}' where prompt_id = '{new['prompt_id']}'"
        )
    done = import_file(engine, jsonl(old, name="old.jsonl"), secret=secret)
    assert (done.traces, done.traces_known, count(engine, TraceRow)) == (0, 1, 3)


def test_users_are_known_by_a_hash_that_only_this_installation_makes(
    engine: Engine, trace: Make, jsonl: Write
):
    def stored(number: int, secret: bytes) -> str:
        path = jsonl(trace(number, user="ann"), name=f"{number}.jsonl")
        import_file(engine, path, secret=lambda: secret)
        return read(engine, TraceRow, prompt_id=f"p{number}").iloc[0]["user_hash"]

    one, same = (stored(n, b"one secret of an installation, long") for n in (1, 2))
    other = stored(3, b"another secret of an installation")
    assert one == same != other
    assert len(one) == 32


def test_a_name_is_never_stored_for_want_of_a_secret_and_no_secret_is_made_for_nothing(
    engine: Engine, trace: Make, jsonl: Write
):
    asked: list[int] = []

    def secret() -> bytes:
        asked.append(1)
        return b"s" * 32

    assert import_file(engine, jsonl(trace(1)), secret=secret).traces == 1
    assert not asked
    named = jsonl(trace(2, user="ann"), trace(3, user="ann"), name="named.jsonl")
    with pytest.raises(NoSecret, match="hand in the secret"):
        import_file(engine, named)
    assert import_file(engine, named, secret=secret).traces == 2
    assert len(asked) == 1
