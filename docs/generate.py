"""Makes the pages that are not written by hand: the reference of commands, settings, tables.

    python -m docs.generate

Also the page of the benchmarks, from their results. `make docs` runs it; a test fails if a page is
not what this makes.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import typer
from sqlalchemy import Column

from benchmarks.page import page as benchmarks_page
from loop_pipeline.cli.main import app
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store import tables

DOCS = Path(__file__).parent
MADE = "<!-- Made by `make docs` from {}. Do not edit. -->\n"
KINDS = {
    "UtcDateTime": "time (UTC)",
    "String": "text",
    "Integer": "whole number",
    "BigInteger": "whole number",
    "Float": "number",
    "Boolean": "yes or no",
    "JSON": "JSON",
    "LargeBinary": "bytes",
}


def pages() -> dict[Path, str]:
    """Every page that is made, by where it lies."""
    return {
        DOCS / "reference" / "cli.md": commands_page(),
        DOCS / "reference" / "settings.md": settings_page(),
        DOCS / "reference" / "tables.md": tables_page(),
        DOCS / "benchmarks.md": benchmarks_page(),
    }


# ---- commands ------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command that can be typed, by its words (``loop review push``)."""
    found: dict[str, Any] = {}

    def collect(words: str, command: Any) -> None:
        found[words] = command
        for name, below in getattr(command, "commands", {}).items():
            if not below.hidden:
                collect(f"{words} {name}", below)

    collect("loop", typer.main.get_command(app))
    return found


def commands_page() -> str:
    """Commands with their arguments and options."""
    parts = [MADE.format("the commands themselves"), "# Commands\n"]
    parts.append("`loop COMMAND --help` says the same. Settings: [settings](settings.md).\n")
    found = {words: command for words, command in commands().items() if words != "loop"}
    parts.append("| command | what it does |\n|---|---|")
    parts += [
        f"| [`{words}`](#{words.replace(' ', '-')}) | {_first_sentence(command)} |"
        for words, command in found.items()
    ]
    for words, command in found.items():
        parts.append(f"\n## {words}\n\n{_told(command)}")
        shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
        if hasattr(command, "commands"):
            below = [f"`{name}`" for name, c in command.commands.items() if not c.hidden]
            parts.append(f"\nCommands below it: {', '.join(below)}.")
        if shown:
            parts.append("\n| argument or option | default | what it is |\n|---|---|---|")
            parts += [_parameter(parameter) for parameter in shown]
    return "\n".join(parts).rstrip() + "\n"


def _told(command: Any) -> str:
    """The help of a command; of a group that does something by itself, also what that is."""
    alone = getattr(command, "invoke_without_command", False) and command.callback.__doc__
    told = [command.help or "", f"Alone: {alone}" if alone and alone != command.help else ""]
    return " ".join(" ".join(told).replace("|", "\\|").split())


def _first_sentence(command: Any) -> str:
    return re.split(r"(?<=[.;:])\s", _told(command))[0].rstrip(";:.")


def _parameter(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    many = " …" if parameter.nargs == -1 or parameter.multiple else ""
    flag = argument or getattr(parameter, "is_flag", False)
    names = [parameter.name.upper()] if argument else parameter.opts
    shown = ", ".join(f"`{name}{'' if flag else ' VALUE'}{many}`" for name in names)
    default = "needed" if parameter.required else ""
    if parameter.default not in (None, False, ()) and not callable(parameter.default):
        default = f"`{parameter.default}`"
    return f"| {shown} | {default} | {_one_line(parameter.help or '')} |"


# ---- settings ------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting with its variable, default and meaning."""
    lines = [
        MADE.format("loop_pipeline/settings.py"),
        "# Settings\n",
        "Each is a `LOOP_…` variable, or the same name without the prefix in `loop.yaml` (in the "
        "folder you start `loop` in, or in `LOOP_HOME`). A variable beats the file. "
        "[examples/loop.yaml](../../examples/loop.yaml) has the ones people change first.\n",
        "Secrets are read from the environment only; they are never written to a file or a log.\n",
        "| variable | default | what it is |",
        "|---|---|---|",
    ]
    for name, field in LoopSettings.model_fields.items():
        default = _default(field.get_default(call_default_factory=True))
        told = _one_line(field.description or "")
        lines.append(f"| `LOOP_{name.upper()}` | {default} | {told} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value == Path(sys.executable):
        return "this interpreter"
    return "" if value is None or str(value) in ("", "[]") else f"`{value}`"


# ---- tables --------------------------------------------------------------------------------


def tables_page() -> str:
    """Every table with its columns."""
    parts = [
        MADE.format("loop_pipeline/store/tables.py"),
        "# Tables\n",
        "The loop's own database: SQLite in `LOOP_HOME`, or PostgreSQL "
        "(`LOOP_DATABASE_URL`). Any row can be followed by its `prompt_id`.\n",
        "| table | a row is |\n|---|---|",
    ]
    rows = {mapper.local_table: mapper.class_ for mapper in tables.Base.registry.mappers}
    mapped = [(rows[table], table) for table in tables.Base.metadata.tables.values()]
    for row, table in mapped:
        first = inspect.cleandoc(row.__doc__ or "").split("\n\n")[0]
        parts.append(f"| [`{table.name}`](#{table.name}) | {_one_line(first)} |")
    for row, table in mapped:
        parts.append(f"\n## {table.name}\n\n{_code(inspect.cleandoc(row.__doc__ or ''))}\n")
        parts.append("| column | type | |\n|---|---|---|")
        parts += [_column(column) for column in table.columns]
    return "\n".join(parts) + "\n"


def _column(column: Column[Any]) -> str:
    marks = ["key"] if column.primary_key else []
    marks += [f"of `{key.column.table.name}`" for key in column.foreign_keys]
    marks += ["may be null"] if column.nullable else []
    return f"| `{column.name}` | {KINDS[type(column.type).__name__]} | {', '.join(marks)} |"


def _code(text: str) -> str:
    return text.replace("``", "`")


def _one_line(text: str) -> str:
    return " ".join(_code(text).replace("|", "\\|").split())


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
