from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect

from loop_pipeline.store.database import insert_new, open_store, read, replace_days, upsert
from loop_pipeline.store.policies import activate_policy, active_policy
from loop_pipeline.store.tables import Base, ContractRow, LedgerRow, PolicyRow


def test_the_migrations_make_exactly_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        names = set(inspect(connection).get_table_names())
    assert names == set(Base.metadata.tables) | {"alembic_version"}


def test_opening_twice_changes_nothing(engine: Engine, store_url: str) -> None:
    with engine.begin() as connection:
        insert_new(connection, ContractRow, [{"contract_id": "a", "body": {"kind": "text"}}])
    again = open_store(store_url)
    assert len(read(again, ContractRow)) == 1
    again.dispose()


def _ledger(day: str, item: str, amount: float) -> dict[str, object]:
    return {"day": day, "item": item, "amount_usd": amount, "detail": ""}


def test_replacing_a_day_touches_that_day_only(engine: Engine) -> None:
    with engine.begin() as connection:
        upsert(connection, LedgerRow, [_ledger("1", "a", 1), _ledger("1", "b", 1)])
        upsert(connection, LedgerRow, [_ledger("2", "a", 2), _ledger("1", "b", 5)])
    with engine.begin() as connection:
        replace_days(connection, LedgerRow, ["1"], [_ledger("1", "c", 7)])
    rows = read(engine, LedgerRow)[["day", "item", "amount_usd"]].values.tolist()
    assert rows == [["1", "c", 7.0], ["2", "a", 2.0]]


def test_one_policy_is_in_force_and_the_others_are_history(engine: Engine) -> None:
    for sha in ("a", "b", "b", "a"):
        with engine.begin() as connection:
            activate_policy(connection, sha256=sha, bundle="{}", checkpoint_id=None)
        active = active_policy(engine)
        assert active is not None
        assert active["sha256"] == sha
    assert len(read(engine, PolicyRow)) == 2
    assert read(engine, PolicyRow)["active_to"].isna().sum() == 1
