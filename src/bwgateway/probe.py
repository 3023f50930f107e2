"""Is a relay alive? A handshake says so: only who holds its static key can answer a CREATE (protocol section 3).

The circuit that it makes is ended at once by a DESTROY. Relays are asked in their own time, a few at a time; one that
misses MISSES rounds in a row counts as silent.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import structlog
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as seal

from bwrouter.platform import net, sodium
from bwrouter.wire import cell, descriptor, handshake, noise
from bwrouter.wire import sizes as S

log = structlog.get_logger()
MISSES = 3
AT_ONCE = 16
REPEATS = 3
REPEAT_SECONDS = 1.0


class Probe:
    """One handshake with one relay."""

    def __init__(self, relay: Any) -> None:
        self.relay = relay
        self.heard_from: tuple[str, int] | None = None
        self.heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.cid = bytes(cell.make_cid(os.urandom(8)))
        self._obf, self._link_key = secrets.token_bytes(32), secrets.token_bytes(S.LINK_KEY)
        self._noise = noise.Initiator(relay.static)
        payload = handshake.payload1(1 + secrets.randbelow(7), self._link_key, self._obf, int(time.time()))
        self._message = self._noise.write(payload)
        self._cookie: bytes | None = None

    def create(self) -> bytes:
        """The CREATE datagram; the same Noise message in a fresh coat at every call."""
        return bytes(handshake.create(self.relay.obf, self.cid, self._message, self._cookie))

    def take(self, raw: bytes) -> bool:
        """A datagram of the relay's address: True when it is the CREATED, and `destroy` can be called. A COOKIE is
        kept for the next `create`."""
        if len(raw) < S.HEADER + S.TAIL:
            return False
        for obf in (self._obf, self.relay.obf):
            packet = sodium.stream_xor(obf, raw[-S.NONCE :], raw[: S.HEADER]) + raw[S.HEADER :]
            if packet[:8] != self.cid:
                continue
            if obf == self.relay.obf:
                self._cookie = handshake.open_cookie(packet, obf)
                return False
            return self._created(packet)
        return False

    def _created(self, packet: bytes) -> bool:
        mac_key = handshake.backward_mac_key(self._link_key)
        if sodium.shorthash(mac_key, packet[:16]) != packet[16:24]:
            return False
        try:
            kind, value = handshake.parse_reply(handshake.unmask_body(packet, self._obf))
            if kind != "created":
                return False
            handshake.parse_payload2(self._noise.read(value))
        except (handshake.Malformed, sodium.CryptoError):
            return False
        if not self.heard.done():
            self.heard.set_result(packet[8:16])
        return True

    def destroy(self) -> bytes:
        """The DESTROY cell that ends the circuit."""
        forward, _ = self._noise.keys
        counter = struct.pack("<Q", 0)
        layer = seal(bytes([0, S.DESTROY]), counter + bytes([cell.FORWARD]), bytes(4) + counter, forward)
        header = self.heard.result() + counter + bytes(8)
        return bytes(sodium.stream_xor(self.relay.obf, layer[-S.NONCE :], header)) + layer


class _Socket(asyncio.DatagramProtocol):
    """Gives what arrives to the probes of its sender."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, int], list[Probe]] = {}
        self.anchored: list[Probe] = []
        """Those of relays that answer from an address which the directory does not know."""

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        for probe in [*self.waiting.get((addr[0], addr[1]), []), *self.anchored]:
            if probe.take(data):
                probe.heard_from = (addr[0], addr[1])
                return


class Prober:
    """Asks relays whether they live."""

    def __init__(self) -> None:
        self._misses: dict[bytes, int] = {}
        self._sockets: dict[int, tuple[asyncio.DatagramTransport, _Socket]] = {}

    async def close(self) -> None:
        """Close the sockets."""
        for transport, _ in self._sockets.values():
            transport.close()

    def alive(self, relay: bytes) -> bool:
        """Whether a relay has answered lately, or was never asked."""
        return self._misses.get(relay, 0) < MISSES

    async def round(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Ask the relays of these descriptors; the ids of those that answered."""
        gate = asyncio.Semaphore(AT_ONCE)
        answered: list[bytes] = []

        async def one(body: bytes) -> None:
            relay = descriptor.parse(body)
            async with gate:
                good = await self._ask(relay)
            self._misses[bytes(relay.relay)] = 0 if good else self._misses.get(bytes(relay.relay), 0) + 1
            if good:
                answered.append(bytes(relay.relay))

        await asyncio.gather(*(one(body) for body in bodies))
        return answered

    async def _ask(self, relay: Any) -> bool:
        family, host, port = socket.AF_INET, net.ip_text(relay.v4), relay.port4
        if not port:
            family, host, port = socket.AF_INET6, net.ip_text(relay.v6), relay.port6
        try:
            transport, protocol = await self._open(family)
            probe = Probe(relay)
        except (OSError, sodium.CryptoError) as e:  # no such family here, or a static key that is no key
            log.debug("probe.failed", relay=relay.relay.hex(), error=str(e))
            return False
        place = (host, port)
        asked = protocol.anchored if relay.anchored else protocol.waiting.setdefault(place, [])
        asked.append(probe)
        try:
            for _ in range(REPEATS):
                transport.sendto(probe.create(), place)
                await asyncio.wait([probe.heard], timeout=REPEAT_SECONDS)
                if probe.heard.done():
                    transport.sendto(probe.destroy(), probe.heard_from or place)
                    return True
            return False
        finally:
            asked.remove(probe)
            if not protocol.waiting.get(place, [probe]):
                del protocol.waiting[place]

    async def _open(self, family: int) -> tuple[asyncio.DatagramTransport, _Socket]:
        if family not in self._sockets:
            loop = asyncio.get_running_loop()
            anywhere = "0.0.0.0" if family == socket.AF_INET else "::"
            transport, protocol = await loop.create_datagram_endpoint(_Socket, (anywhere, 0), family=family)
            self._sockets[family] = (transport, protocol)
        return self._sockets[family]
