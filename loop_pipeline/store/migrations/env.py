"""Alembic's entry: migrates over the connection that ``open_store`` hands in."""

from alembic import context

from loop_pipeline.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
