"""The directory: which relays there are. Every descriptor's two signatures are checked here, whoever sent it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import requests

from bwrouter.wire import address, descriptor


class DirectoryError(RuntimeError):
    """The directory could not be had or has nothing usable; the text says which gateway and why."""


@dataclass
class Directory:
    """Verified descriptors, and how many were refused by reason."""

    relays: list[descriptor.Descriptor]
    refused: dict[str, int]


def fetch(url: str, gateway_key: bytes, timeout: float = 10.0) -> Directory:
    """GET /v1/directory of a gateway; `gateway_key` is its Ed25519 key. Raises DirectoryError."""
    try:
        answer = requests.get(url + "/v1/directory", timeout=timeout)
        answer.raise_for_status()
        raw = [bytes.fromhex(text) for text in answer.json()["descriptors"]]
    except (requests.RequestException, ValueError, KeyError, TypeError) as e:
        raise DirectoryError(f"directory of {url} cannot be read: {e}") from e
    return check(raw, gateway_key)


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
