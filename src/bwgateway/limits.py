"""Rate limits: token buckets by address and by identity, each process its own.

An address is an IPv4 address or an IPv6 /64. An identity is a relay or account whose signature held, so that nobody can
use up another's bucket. What comes through a trusted proxy counts for the address that the proxy names.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from bwgateway import metrics
from bwgateway.problems import Problem
from bwgateway.settings import LimitSettings

_MOST = 100_000
"""Buckets kept; full ones are forgotten first, and past that the oldest."""


class Buckets:
    """A bucket of `burst` tokens for each key, refilled at `rate` a second; a rate of zero limits nothing."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, max(burst, 1.0)
        self._level: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable, now: float) -> float:
        """Take a token: 0, or the seconds until there is one."""
        if self._rate <= 0:
            return 0.0
        level, at = self._level.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._level[key] = (level if wait else level - 1, now)
        if len(self._level) > _MOST:
            self._forget(now)
        return wait

    def _forget(self, now: float) -> None:
        full = self._burst / self._rate
        self._level = {k: v for k, v in self._level.items() if now - v[1] < full}
        while len(self._level) > _MOST // 2:
            del self._level[next(iter(self._level))]


class Limits:
    """The buckets of a process."""

    def __init__(self, settings: LimitSettings) -> None:
        self._addresses = Buckets(settings.address_per_s, settings.address_burst)
        self._identities = Buckets(settings.identity_per_s, settings.identity_burst)
        self._proxies: list[IPv4Network | IPv6Network] = [ip_network(n) for n in settings.proxies]

    def source(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address that a request counts for: the peer, or the last one of X-Forwarded-For that is no proxy of
        ours. Text that is no address counts as it is."""
        for hop in [peer, *reversed([name.strip() for line in forwarded for name in line.split(",")])]:
            try:
                address = ip_address(hop)
            except ValueError:
                return peer
            peer = str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else hop
            if not any(address in network for network in self._proxies):
                break
        return peer

    def by_address(self, source: str) -> Problem | None:
        """A Problem when that address asks too often."""
        return _problem("address", self._addresses.take(source, time.monotonic()))

    def by_identity(self, identity: bytes) -> None:
        """Raises Problem 429 when that relay or account asks too often."""
        if problem := _problem("identity", self._identities.take(identity, time.monotonic())):
            raise problem


def _problem(kind: str, wait: float) -> Problem | None:
    if not wait:
        return None
    metrics.limited.labels(kind).inc()
    text = f"too many requests by this {kind}; try again in {wait:.1f} s"
    return Problem(429, "rate", text, retry_after=wait)
