"""Says which setting is wrong, where it stands and which one was meant; never what was given.

The settings themselves are in ``settings.py``. A value may be a secret, so none is repeated.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from pydantic_core import ErrorDetails

# Read outside the schema, by the set-up.
ELSEWHERE = {"LOOP_PYTHON"}
# A variable this like a setting's is one misspelt; any other LOOP_* may be somebody else's
# (Kubernetes makes LOOP_PORT and more for a service called `loop`).
ALIKE = 0.85


def misspelt_variables(variables: Iterable[str], fields: Iterable[str]) -> Iterator[str]:
    """One line for each ``LOOP_*`` variable that no setting has, but nearly.

    Args:
        variables: names of environment variables.
        fields: names of the settings.
    """
    known = {f"LOOP_{field.upper()}" for field in fields} | ELSEWHERE
    for name in sorted(set(variables)):
        if name.startswith("LOOP_") and name not in known:
            meant = difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)
            if meant:
                yield f"{name}: no setting is called so; did you mean {meant[0]}?"


def wrong_settings(
    errors: Iterable[ErrorDetails],
    variables: Iterable[str],
    fields: Iterable[str],
    files: list[Path],
) -> Iterator[str]:
    """One line for each wrong setting: its name, where it stands, what is wrong; by file and line.

    Args:
        errors: what pydantic found.
        variables: names of environment variables; they beat the files.
        fields: names of the settings.
        files: the YAML files that were read, the stronger last.
    """
    names, given = list(fields), {name.upper() for name in variables}
    named = [(str(error["loc"][0]) if error["loc"] else "", error) for error in errors]
    for name, error in sorted(named, key=lambda one: _found(files, one[0]) or (Path(), 0)):
        variable = f"LOOP_{name.upper()}"
        where = None if variable in given else _place(files, name)
        if error["type"] != "extra_forbidden":
            yield f"{where}: {name}: {error['msg']}" if where else f"{variable}: {error['msg']}"
        elif variable in ELSEWHERE:
            yield f"{where or 'settings'}: {name}: not read from a file; set {variable} instead"
        else:
            meant = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {meant[0]}?" if meant else ""
            yield f"{where or 'settings'}: no setting is called {name}{hint}"


def secrets_in_files(files: list[Path], secrets: Iterable[str]) -> Iterator[str]:
    """One line for each key or token that stands in a file, where others can read it.

    Args:
        files: the YAML files that were read.
        secrets: names of the settings that come from the environment only.
    """
    for name in secrets:
        if where := _place(files, name):
            yield f"{where}: {name}: not read from a file; set LOOP_{name.upper()} instead"


def _place(files: list[Path], name: str) -> str | None:
    """File and line of a setting, in the file that counts, as people read it."""
    found = _found(files, name)
    return f"{found[0]}, line {found[1]}" if found else None


def _found(files: list[Path], name: str) -> tuple[Path, int] | None:
    for path in reversed(files):
        if path.exists():
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
                if key.value == name:
                    return path, key.start_mark.line + 1
    return None


def wrong_yaml(files: list[Path]) -> str | None:
    """Which of the files is no YAML mapping, and where; None if all are."""
    for path in files:
        if not path.exists():
            continue
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            return f"{path}, line {line}: no YAML: {error.problem}"
        except (yaml.YAMLError, UnicodeDecodeError):
            return f"{path}: no YAML: a character that text does not have"
        if found is not None and not isinstance(found, dict):
            return f"{path}, line 1: write one `name: value` a line"
    return None
