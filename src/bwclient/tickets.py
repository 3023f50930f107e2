"""Tickets and the buyer's store of them, which survives a crash at any point.

In the wallet's folder: `pending-<nonce>.json` is an issue that may have been paid and is not finished;
`batch-<nonce>.json` are its tickets; `taken.log` has the id of every ticket that left the store, a line each, and
`done.log` of every one of which nothing can be had back any more. A batch of which that holds for all is deleted
(`tidy`). Files are written tmp + fsync + rename.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ticket:
    """A paid chain of `units` preimages. `top` is w_N, secret; `output` (64 bytes) the mint's signature on H(w_0)."""

    key_id: bytes
    output: bytes
    units: int
    top: bytes
    region: int
    _chain: list[bytes] = field(default_factory=list, repr=False, compare=False)

    def preimage(self, index: int) -> bytes:
        """w_index, 32 bytes; 0 is the anchor. The chain is computed at the first call."""
        if not 0 <= index <= self.units:
            raise ValueError(f"index: {index} is outside 0..{self.units}")
        if not self._chain:
            self._chain.extend(chain(self.top, self.units))
        return self._chain[index]

    @property
    def anchor(self) -> bytes:
        """w_0."""
        return self.preimage(0)

    @property
    def id(self) -> bytes:
        """H(w_0)."""
        return sha256(self.anchor).digest()

    def to_json(self) -> dict[str, Any]:
        """For the store."""
        return {
            "key": self.key_id.hex(),
            "output": self.output.hex(),
            "units": self.units,
            "top": self.top.hex(),
            "region": self.region,
            "id": self.id.hex(),
        }

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Ticket:
        """From the store."""
        return cls(
            bytes.fromhex(d["key"]), bytes.fromhex(d["output"]), d["units"], bytes.fromhex(d["top"]), d["region"]
        )


def chain(top: bytes, units: int) -> list[bytes]:
    """w_0 .. w_units of the chain whose last preimage is `top`."""
    words = [top]
    for _ in range(units):
        words.append(sha256(words[-1]).digest())
    words.reverse()
    return words


class Store:
    """The wallet's folder. One process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._taken_path = folder / "taken.log"
        self._done_path = folder / "done.log"
        self._taken = set(_read_ids(self._taken_path))
        self._done = set(_read_ids(self._done_path))

    def tidy(self) -> None:
        """Delete the batches that are done: what a start reads does not grow with what was ever bought. Their ids stay
        in the logs, which another process may be writing to."""
        done = [p for p in self.folder.glob("batch-*.json") if all(id in self._done for id, _ in _entries(p))]
        for path in done:
            path.unlink(missing_ok=True)
        if done:
            _sync_folder(self.folder)

    def pending(self) -> list[Path]:
        """Issues that are not finished."""
        return sorted(self.folder.glob("pending-*.json"))

    def begin(self, nonce: str, document: dict[str, Any]) -> Path:
        """Note an issue before it is sent."""
        path = self.folder / f"pending-{nonce}.json"
        _write(path, document)
        return path

    def finish(self, pending: Path, tickets: list[Ticket]) -> None:
        """Keep the tickets of an issue and forget that it was pending."""
        nonce = pending.stem.removeprefix("pending-")
        _write(self.folder / f"batch-{nonce}.json", {"tickets": [t.to_json() for t in tickets]})
        self.drop(pending)

    def drop(self, pending: Path) -> None:
        """Forget an issue that had no effect, or is finished."""
        pending.unlink(missing_ok=True)
        _sync_folder(self.folder)

    def unspent(self, region: int | None = None) -> list[Ticket]:
        """Tickets that were not taken, oldest batch first."""
        return [t for id, t in self._all(region) if id not in self._taken]

    def handed_out(self, region: int | None = None) -> list[Ticket]:
        """Tickets that were taken and of which something may be had back, oldest batch first."""
        out = self._taken - self._done
        return [t for id, t in self._all(region) if id in out]

    def _all(self, region: int | None) -> Iterator[tuple[str, Ticket]]:
        for path in sorted(self.folder.glob("batch-*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name)):
            for id, ticket in _entries(path):
                if region is None or ticket.region == region:
                    yield id, ticket

    def forget(self, ticket: Ticket) -> None:
        """Nothing can be had back of a ticket any more."""
        _append_id(self._done_path, ticket.id.hex())
        self._done.add(ticket.id.hex())

    def take(self, ticket: Ticket) -> Ticket:
        """Mark a ticket as handed out, durably, before it is. Raises ValueError when it was before."""
        name = ticket.id.hex()
        if name in self._taken:
            raise ValueError(f"ticket {name} was handed out before")
        _append_id(self._taken_path, name)
        self._taken.add(name)
        return ticket


def _entries(path: Path) -> Iterator[tuple[str, Ticket]]:
    """A batch's tickets and their ids, hex. An id is kept beside its ticket, for the whole chain makes it."""
    try:
        batch = json.loads(path.read_text(encoding="ascii"))
    except FileNotFoundError:  # tidied away by another process
        return
    for entry in batch["tickets"]:
        ticket = Ticket.from_json(entry)
        yield entry.get("id") or ticket.id.hex(), ticket


def _read_ids(path: Path) -> Iterator[str]:
    if path.exists():
        for line in path.read_text(encoding="ascii").splitlines():
            if len(line) == 64:  # a torn last line does not count
                yield line


def _append_id(path: Path, name: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if os.fstat(fd).st_size % 65:  # torn by a crash: end that line
            os.write(fd, b"\n")
        os.write(fd, name.encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(path: Path, document: dict[str, Any]) -> None:
    tmp = path.with_suffix(".tmp")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as f:
        json.dump(document, f)
        f.flush()
        os.fsync(f.fileno())
    os.replace(tmp, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
