"""The directory: which relays there are. Every descriptor's two signatures are checked here, whoever sent it.

A client keeps what it has and asks for what changed (docs/architecture.md). The gateway signs each answer and the hash
of the whole set; what does not lead to that hash is thrown away and fetched whole.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import requests
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from bwrouter.wire import address, descriptor
from bwrouter.wire import sizes as S

from .reach import OWN

PREFIX = b"bwrouter/1 directory\n"
_HEADER = struct.Struct("<4s8sB3xQQQII32s")
_EXTRA = struct.Struct("<BHII")
_ENTRY = S.DESCRIPTOR + _EXTRA.size
_FULL = 1
_CLOCK_SECONDS = 3600
CLASSES = ("unaudited", "bulk", "interactive")


class DirectoryError(RuntimeError):
    """The directory could not be had or has nothing usable; the text says which gateway and why."""


class BadDocument(ValueError):
    """A document that is not the gateway's, or does not fit what is known; the text says how."""


@dataclass(frozen=True)
class Facts:
    """What the gateway says of a relay, out of the chain. `score`: basis points; `audited_kbps` 0: never audited."""

    class_: str
    score: int
    audited_kbps: int
    stake_bwt: int


@dataclass
class Directory:
    """Verified descriptors, how many were refused by reason, and the facts of relays by id."""

    relays: list[descriptor.Descriptor]
    refused: dict[str, int]
    facts: dict[bytes, Facts] = field(default_factory=dict)


@dataclass(frozen=True)
class Set:
    """All entries (297 bytes each) by relay id, at a version."""

    version: int = 0
    entries: Mapping[bytes, bytes] = field(default_factory=dict)

    def apply(self, document: bytes, gateway_key: bytes) -> Set:
        """The set after a signed document of the gateway (its Ed25519 key). Raises BadDocument."""
        body, signature = document[:-64], document[-64:]
        try:
            VerifyKey(gateway_key).verify(PREFIX + body, signature)
        except (BadSignatureError, ValueError) as e:
            raise BadDocument("its signature does not hold") from e
        if len(body) < _HEADER.size:
            raise BadDocument("it is too short")
        magic, _, flags, since, version, at, count, gone, digest = _HEADER.unpack_from(body)
        if magic != b"bwd1" or len(body) != _HEADER.size + count * _ENTRY + gone * 32:
            raise BadDocument("its size is not what its header says")
        if abs(at - time.time()) > _CLOCK_SECONDS:
            raise BadDocument(f"it is {time.time() - at:.0f} s off this machine's clock")
        if not flags & _FULL and since != self.version:
            raise BadDocument(f"it begins at version {since}, this set is at {self.version}")
        entries = {} if flags & _FULL else dict(self.entries)
        end = _HEADER.size + count * _ENTRY
        for i in range(_HEADER.size, end, _ENTRY):
            entries[body[i + 1 : i + 33]] = body[i : i + _ENTRY]
        for i in range(end, len(body), 32):
            entries.pop(body[i : i + 32], None)
        entries = {relay: entry for relay, entry in entries.items() if _until(entry) > at}
        if sha256(b"".join(entries[relay] for relay in sorted(entries))).digest() != digest:
            raise BadDocument("what it leads to is not what the gateway has")
        return Set(version, entries)

    def save(self, path: Path) -> None:
        """Keep the set for the next run: tmp + rename; without fsync, since it can be had again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp = path.with_name(path.name + ".tmp")
        tmp.write_bytes(self.version.to_bytes(8, "little") + b"".join(self.entries.values()))
        os.replace(tmp, path)

    @classmethod
    def load(cls, path: Path) -> Set:
        """The set of an earlier run; an empty one when there is none or it is damaged."""
        try:
            raw = path.read_bytes()
        except OSError:
            return cls()
        if len(raw) < 8 or (len(raw) - 8) % _ENTRY:
            return cls()
        entries = {raw[i + 1 : i + 33]: raw[i : i + _ENTRY] for i in range(8, len(raw), _ENTRY)}
        return cls(int.from_bytes(raw[:8], "little"), entries)


def _until(entry: bytes) -> int:
    return int(descriptor.parse(entry[: S.DESCRIPTOR]).until)


def fetch(url: str, gateway_key: bytes, timeout: float = 10.0, state: Path | None = None) -> Directory:
    """The directory of a gateway; `gateway_key` is its Ed25519 key. With `state`, a file that outlives the run, only
    what changed is fetched. Raises DirectoryError."""
    known = Set.load(state) if state is not None else Set()
    try:
        try:
            now = known.apply(_get(url, known.version, timeout), gateway_key)
        except BadDocument:
            if not known.version:
                raise
            now = Set().apply(_get(url, 0, timeout), gateway_key)
        if state is not None and now != known:
            now.save(state)
    except (requests.RequestException, BadDocument, descriptor.BadDescriptor, OSError) as e:
        raise DirectoryError(f"directory of {url} cannot be read: {e}") from e
    return _told(now, gateway_key)


def recall(gateway_key: bytes, state: Path) -> Directory:
    """What `fetch` kept in `state`, as far as it still holds: descriptors are good for hours."""
    return _told(Set.load(state), gateway_key)


def _told(known: Set, gateway_key: bytes) -> Directory:
    found = check([entry[: S.DESCRIPTOR] for entry in known.entries.values()], gateway_key)
    for d in found.relays:
        class_, score, audited, stake = _EXTRA.unpack_from(known.entries[d.relay], S.DESCRIPTOR)
        found.facts[d.relay] = Facts(CLASSES[min(class_, 2)], score, audited, stake)
    return found


def _get(url: str, since: int, timeout: float) -> bytes:
    with OWN.passing() as session:
        answer = session.get(f"{url}/v1/directory/document?since={since}", timeout=timeout)
        answer.raise_for_status()
        return answer.content


def check(raw: list[bytes], gateway_key: bytes) -> Directory:
    """Keep what verifies and may be spoken to."""
    relays: list[descriptor.Descriptor] = []
    refused: dict[str, int] = {}
    now = int(time.time())
    for text in raw:
        try:
            d = descriptor.verify(text, (gateway_key,), now)
        except descriptor.BadDescriptor as e:
            refused[str(e)] = refused.get(str(e), 0) + 1
            continue
        if not ((d.port4 and not address.refused(d.v4)) or (d.port6 and not address.refused(d.v6))):
            refused["no public address"] = refused.get("no public address", 0) + 1
            continue
        relays.append(d)
    return Directory(relays, refused)
