"""The ``loop`` command."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from loop_pipeline.cli.common import open_settings_and_store
from loop_pipeline.cli.doctor import doctor
from loop_pipeline.cli.gateway import gateway
from loop_pipeline.cli.groups import groups
from loop_pipeline.cli.keys import keys
from loop_pipeline.cli.policy import policy
from loop_pipeline.cli.reviews import review
from loop_pipeline.cli.rollout import history, rollback, rollout
from loop_pipeline.cli.ship import ship
from loop_pipeline.cli.ui import ui
from loop_pipeline.masking import mask_secrets, masked
from loop_pipeline.settings import load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(doctor)
app.command()(ui)
app.command()(ship)
