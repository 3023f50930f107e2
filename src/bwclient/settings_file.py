"""Settings files: a JSON object that a model checks, every wrong value named with what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class SettingsError(ValueError):
    """The text names each setting, its value and what it wants. Programs exit 2 on it."""


def load(
    model: type[Model], path: str, paths: Iterable[str], mend: str,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: given,
) -> Model:  # fmt: skip
    """Settings from a JSON file. `paths`: names of those that are paths, relative to the file's folder; `mend`: what
    helps where there is no file; `changed`: what is in force beside the file. Raises SettingsError, one line for each
    wrong setting."""
    try:
        text = Path(path).read_text()
    except FileNotFoundError as e:
        raise SettingsError(f"config file {path} cannot be read: there is none; {mend}") from e
    except OSError as e:
        raise SettingsError(f"config file {path} cannot be read: {e.strerror}") from e
    try:
        given = json.loads(text)
    except ValueError as e:
        raise SettingsError(f"config file {path} is not JSON: {e}") from e
    if not isinstance(given, dict):
        raise SettingsError(f"config file {path} is not a JSON object")
    try:
        found = model.model_validate(changed(given))
    except ValidationError as e:
        raise SettingsError("\n".join(_sentence(item) for item in e.errors())) from e
    base = Path(path).absolute().parent
    return found.model_copy(update={n: str(base / v) for n in paths if (v := getattr(found, n))})


def _sentence(item: Any) -> str:
    name = ".".join(str(x) for x in item["loc"]) or "(file)"
    shown = "" if isinstance(item.get("input"), dict) else f" {item.get('input')!r}"
    return f"setting {name}:{shown} is not allowed: {item['msg']}"
