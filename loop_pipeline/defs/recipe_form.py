"""The form that Dagster shows for a training: the recipe's fields, all of them optional.

What the fields mean is in ``recipe``; what is trained with them in ``training``.
"""

from typing import Any, Literal, Optional, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.settings import LoopSettings


def _form() -> dict[str, Any]:
    """The recipe's fields, all of them empty.

    Dagster fills in defaults before a model sees them, so that only what is empty can follow the
    profile; and it has no type for a choice that may be empty.
    """
    fields: dict[str, Any] = {}
    for name, field in QLoRAConfig.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        about = [field.description or "", f"One of {', '.join(choices)}." if choices else ""]
        kind = str if choices else field.annotation
        fields[name] = (Optional[kind], Field(None, description=" ".join(about).strip()))  # noqa: UP045
    return fields


class TrainConfig(create_model("_Form", __base__=dg.Config, **_form())):
    """The recipe's fields. Empty ones are as in LOOP_RECIPE_FILE, else as in the profile."""

    def recipe(self, settings: LoopSettings) -> QLoRAConfig:
        """The recipe of this run."""
        try:
            return settings.recipe(**self.model_dump(exclude_none=True))
        except ValueError as error:
            raise dg.Failure(f"wrong recipe: {error}", allow_retries=False) from error
