"""Secrets of a run and where they must not be: its logs.

Secret are the private keys of everybody, the mint's seed, and of every ticket the preimages that are money: the last one of the
chain, and what a wallet keeps to make them. Public are keys' public halves, addresses, ids.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

KEY_FILES = ("*.key", "mint.seed")
TICKET_FILES = ("batch-*.json", "pending-*.json")
LEAST = 32  # hex digits; shorter ones turn up by chance
SECRET_FIELDS = ("top", "seed", "output", "tops", "seeds", "blind", "blinds")


def secrets_under(folder: Path) -> dict[str, str]:
    """Every secret as lower-case hex -> the file that holds it."""
    found: dict[str, str] = {}
    for pattern in KEY_FILES:
        for path in folder.rglob(pattern):
            text = path.read_text(errors="replace").strip().removeprefix("0x").lower()
            if len(text) >= LEAST and all(c in "0123456789abcdef" for c in text):
                found[text] = str(path.relative_to(folder))
    for pattern in TICKET_FILES:
        for path in folder.rglob(pattern):
            for text in _fields(json.loads(path.read_text())):
                found[text] = str(path.relative_to(folder))
    return found


def _fields(value: object, secret: bool = False) -> list[str]:
    if isinstance(value, dict):
        return [t for k, v in value.items() for t in _fields(v, k in SECRET_FIELDS)]
    if isinstance(value, list):
        return [t for v in value for t in _fields(v, secret)]
    if secret and isinstance(value, str) and len(value) >= LEAST:
        return [value.removeprefix("0x").lower()]
    return []


def told(secrets: dict[str, str], logs: list[Path]) -> list[str]:
    """A line for each log that holds a secret: as hex in either case, as Base64, or as raw bytes."""
    lines = []
    for log in logs:
        raw = log.read_bytes()
        text = raw.decode("latin-1")
        lower = text.lower()
        for secret, source in secrets.items():
            shapes = [secret in lower]
            if len(secret) % 2 == 0 and not shapes[0]:
                plain = bytes.fromhex(secret)
                encoded = base64.b64encode(plain).decode().rstrip("=")
                shapes += [encoded in text, encoded.replace("+", "-").replace("/", "_") in text, plain in raw]
            if any(shapes):
                lines.append(f"{log.name} tells a secret of {source}")
    return lines
