"""Small JSON files that are replaced whole: tmp + fsync + rename."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, document: Any, mode: int = 0o600) -> None:
    """Replace `path`; its folder is made when missing (0700)."""
    write_bytes(path, json.dumps(document, indent=1).encode() + b"\n", mode)


def write_bytes(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` durably."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    tmp = path.with_name(path.name + ".tmp")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(tmp, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
