"""What a verifier knows of the pool: relays that are listed, those that are not (any more), and what the chain says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests

from bwclient import directory
from bwclient.relays import Relays
from bwrouter.wire.descriptor import Descriptor

from .settings import Settings

REFRESH_SECONDS = 60.0


class Pool(Relays):
    """The client's view of relays, and the unlisted beside it. Everything is checked against the gateway's key."""

    def __init__(self, settings: Settings) -> None:
        Path(settings.client().state_dir).mkdir(parents=True, exist_ok=True)
        super().__init__(settings.client())
        self.unlisted: list[Descriptor] = []
        self._fresh_at = 0.0

    def refresh(self) -> None:
        """Fetch both lists now. Raises DirectoryError."""
        super().refresh()
        url, key = self.settings.gateway.url, bytes.fromhex(self.settings.gateway.key)
        try:
            answer = self._session.get(f"{url}/v1/directory/unlisted", timeout=10)
            answer.raise_for_status()
            raw = [bytes.fromhex(text) for text in answer.json()["descriptors"]]
        except (requests.RequestException, ValueError, KeyError, TypeError) as e:
            raise directory.DirectoryError(f"{url}/v1/directory/unlisted cannot be read: {e}") from e
        self.unlisted = directory.check(raw, key).relays
        self._fresh_at = time.monotonic()

    def keep_fresh(self, seconds: float = REFRESH_SECONDS) -> None:
        """Fetch when it is due. Raises DirectoryError."""
        if time.monotonic() - self._fresh_at > seconds:
            self.refresh()

    def get(self, relay: bytes) -> Descriptor | None:
        """A relay's descriptor, listed or not."""
        return next((d for d in (*self.listed, *self.unlisted) if d.relay == relay), None)

    def everything(self) -> list[Descriptor]:
        """All of whom a descriptor is known."""
        return [*self.listed, *self.unlisted]

    def audited(self, relay: bytes) -> int:
        """kbit/s of the last conclusive verdict; 0: none."""
        told = self._told.get(relay)
        return told.audited_kbps if told else 0


def prefixes(d: Descriptor) -> tuple[int, int]:
    """(IPv4 /24, IPv6 /48) of a relay as reports carry them, zero for none."""
    return (int.from_bytes(d.v4[:3], "big") if d.port4 else 0, int.from_bytes(d.v6[:6], "big") if d.port6 else 0)


class NotTaken(requests.RequestException):
    """The gateway has read what was posted and says no: it is not asked again."""


def post(session: requests.Session, url: str, body: dict[str, Any]) -> None:
    """POST to the gateway. Raises requests.RequestException with the gateway's words; NotTaken where asking again would
    not help."""
    answer = session.post(url, json=body, timeout=30)
    if answer.status_code != 200:
        again = answer.status_code >= 500 or answer.status_code == 429
        kind = requests.RequestException if again else NotTaken
        raise kind(f"{answer.status_code}: {answer.text[:300]}")
