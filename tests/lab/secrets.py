"""Secrets of a run and where they must not be: its logs.

Secret are the private keys of everybody, the mint's seed, and of every ticket the preimages that are money: the last one of the
chain, and what a wallet keeps to make them. Public are keys' public halves, addresses, ids.
"""

from __future__ import annotations

import base64
import json
import re
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
    """A line for each file whose secrets a log holds: as hex in either case, as Base64, or as raw bytes. Each log is read
    once, however many secrets there are: every stretch of it that might be one is looked up."""
    hexes, coded, plain = _Shapes(HEX), _Shapes(BASE64), _Shapes(BINARY)
    for secret, source in secrets.items():
        hexes.add(secret.encode(), source)
        if len(secret) % 2 == 0:
            raw = bytes.fromhex(secret)
            encoded = base64.b64encode(raw).rstrip(b"=")
            coded.add(encoded, source)
            coded.add(encoded.translate(URL_SAFE), source)
            plain.add(raw, source)
    lines = []
    for log in logs:
        text = log.read_bytes()
        found = hexes.sources(text.lower()) | coded.sources(text) | plain.sources(text)
        lines += [f"{log.name} tells a secret of {source}" for source in sorted(found)]
    return lines


HEX = re.compile(rb"[0-9a-f]{%d,}" % LEAST)
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{%d,}" % (LEAST * 2 // 3))
# Sixteen random bytes or more that are all printable do not turn up: whatever stands around others is looked at.
BINARY = re.compile(rb"[^\t\n\r -~](?:[\x00-\xff]{0,64}[^\t\n\r -~])*")
URL_SAFE = bytes.maketrans(b"+/", b"-_")


class _Shapes:
    """Byte strings of a few lengths, found in a text by looking up its stretches that match `where`."""

    def __init__(self, where: re.Pattern[bytes]) -> None:
        self._where = where
        self._of: dict[int, dict[bytes, str]] = {}

    def add(self, shape: bytes, source: str) -> None:
        self._of.setdefault(len(shape), {})[shape] = source

    def sources(self, text: bytes) -> set[str]:
        found = set()
        beside = max(self._of, default=0) if self._where is BINARY else 0
        for match in self._where.finditer(text):
            first, end = max(0, match.start() - beside), match.end() + beside
            stretch = text[first:end]
            for size, known in self._of.items():
                for at in range(len(stretch) - size + 1):
                    source = known.get(stretch[at : at + size])
                    if source is not None:
                        found.add(source)
        return found
