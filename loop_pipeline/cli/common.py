"""What every command needs: the settings, and the store they name."""

from __future__ import annotations

from sqlalchemy import Engine

from loop_pipeline.settings import LoopSettings, load_settings


def open_settings_and_store() -> tuple[LoopSettings, Engine]:
    """The settings, and the store they name."""
    from loop_pipeline.store.database import open_store

    settings = load_settings()
    return settings, open_store(settings.store_url, settings.app)
