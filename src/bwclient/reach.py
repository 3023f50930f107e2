"""HTTP sessions of the client to gateway and chain.

While no tunnel stands, what they send is marked, so that it goes past the tunnel's routes and the kill switch lets it
out to the gateway alone; once one stands it is not, and the gateway never learns the buyer's address from it. Host
names are resolved before the switch closes and remembered, since no name can be resolved behind a closed switch.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .files import read_json, write_json

_SO_MARK = 36
_PORTS = {"http": 80, "https": 443}


class Reach:
    """How the client's own requests leave the machine. `mark` is set on their sockets while `direct` is true."""

    def __init__(self, mark: int = 0) -> None:
        self.mark = mark
        self.direct = True
        self.pinned: dict[str, str] = {}
        self._sessions: list[requests.Session] = []

    def session(self) -> requests.Session:
        """A session without proxies from the environment."""
        session = requests.Session()
        session.trust_env = False
        adapter = _Adapter(self)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self._sessions.append(session)
        return session

    @contextmanager
    def passing(self) -> Iterator[requests.Session]:
        """A session for one request, closed and forgotten behind it."""
        session = self.session()
        try:
            yield session
        finally:
            self._sessions.remove(session)
            session.close()

    def through_tunnel(self, yes: bool) -> None:
        """Later connections go through the tunnel, or past it. Those that stand are closed."""
        if self.direct == yes:
            self.direct = not yes
            for session in list(self._sessions):
                session.close()

    def endpoints(self, urls: Iterable[str], memory: Path | None = None) -> list[tuple[str, str, int]]:
        """("tcp", address, port) of each URL; one address of each name is pinned. `memory`: a file of what was resolved
        before, used when no name can be. Raises OSError naming the host."""
        known = read_json(memory) if memory is not None else {}
        found: list[tuple[str, str, int]] = []
        for url in urls:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
            addresses = _addresses(host) or known.get(host, [])
            if not addresses:
                raise OSError(f"host {host} of {url} cannot be resolved: check the name, or give its address")
            if not _is_address(host):
                known[host] = addresses
                self.pinned[host] = addresses[0]
            found += [("tcp", a, port) for a in addresses]
        if memory is not None and known:
            write_json(memory, known)
        return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(host: str) -> list[str]:
    try:
        return sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []


class _Adapter(HTTPAdapter):
    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        reach = self._reach

        def prepare(connection: HTTPConnection) -> None:
            if reach.direct and reach.mark and os.geteuid() == 0:
                connection.socket_options = [
                    *(connection.socket_options or []), (socket.SOL_SOCKET, _SO_MARK, reach.mark)
                ]  # fmt: skip
            if reach.direct:
                connection._dns_host = reach.pinned.get(connection._dns_host, connection._dns_host)

        class Http(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                prepare(self)
                return super()._new_conn()

        class Https(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                prepare(self)
                return super()._new_conn()

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = Https

        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}


OWN = Reach()
"""The one of this process; `Up` sets its mark."""
