"""One circuit at the client: handshakes with each hop, layers, counters, replay windows (protocol sections 3 and 4)."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass

from bwrouter.platform import arena, ffi, mmsg, net, sodium
from bwrouter.platform.sodium import DECRYPT, ENCRYPT, SHORTHASH, CryptoError
from bwrouter.wire import address, cell, handshake, noise
from bwrouter.wire import sizes as S
from bwrouter.wire.descriptor import Descriptor, worker
from bwrouter.wire.replay import Windows

from .health import Health
from .meter import HopMeter, TicketSource

_UNCHARGED = (S.PAY, S.PING, S.PONG, S.DESTROY)
_CHARGED_BACKWARD = (S.DATA, S.PAD, S.PROVE)

_POOL: list[arena.Pool] = []
_WINDOWS: list[Windows] = []
_CIRCUITS = 256
AGE_SECONDS = 3600.0  # keys of a circuit serve so long
TICKETS_MOST = 24  # of the 32 that CREDIT's bitmap can show


def _windows() -> Windows:
    if not _WINDOWS:
        _WINDOWS.append(Windows(_CIRCUITS * S.HOPS_MAX))
    return _WINDOWS[0]


def _blocks() -> arena.Pool:
    if not _POOL:
        _POOL.append(arena.Pool(1024, _CIRCUITS))
    return _POOL[0]


def _ephemeral(hop: Hop) -> bytes:
    """A fresh X25519 secret whose public key, the head of the Noise message, belongs to the hop's worker."""
    while True:
        secret = os.urandom(32)
        if worker(sodium.x25519_public(secret), hop.descriptor.workers) == hop.worker:
            return secret


class CircuitError(RuntimeError):
    """The circuit could not be built or has failed; `hop` is the index of the hop concerned."""

    def __init__(self, hop: int, text: str):
        super().__init__(f"hop {hop + 1}: {text}")
        self.hop = hop
        self.text = text


@dataclass
class Hop:
    """One hop: its keys (arena addresses), its label, its meter."""

    descriptor: Descriptor
    origin: int
    link_key: bytes
    meter: HopMeter
    k_forward: int = 0
    k_backward: int = 0
    window: int = 0
    initiator: noise.Initiator | None = None
    ready: bool = False
    got: int = 0  # backward cells of this hop's own that came
    top: int = -1  # and the highest of their numbers

    worker: int = 0  # which of the relay's processes

    @property
    def endpoint(self) -> tuple[str, int]:
        d = self.descriptor
        if d.port4 and not address.refused(d.v4):
            return net.ip_text(d.v4), d.port4 + self.worker
        return net.ip_text(d.v6), d.port6 + self.worker


@dataclass
class SlotView:
    """One packet slot: its address, and its header and bytes as sequences; `mac` is the header's last 8 bytes."""

    address: int
    d: memoryview
    h: memoryview
    b: memoryview
    mac: memoryview

    @classmethod
    def at(cls, address: int) -> SlotView:
        b = ffi.u8(address, mmsg.SLOT)
        return cls(address, ffi.le32(address, 6), ffi.le16(address, 12), b, b[16:24].cast("Q"))


class Circuit:
    """Client's end. `own_obf` (32) and the circuit id belong to this client's socket.

    Arena block: 64 bytes of keys a hop, then link MAC keys, first hop's obfuscation key, its address, a MAC to compare.
    """

    def __init__(
        self, path: list[Descriptor], source: TicketSource, own_obf: bytes, priority: int = 0,
        exit_worker: int | None = None,
    ):  # fmt: skip
        """`exit_worker`: the process of the last hop that has the session; any where it is None."""
        labels = list(range(1, 8))
        secrets.SystemRandom().shuffle(labels)
        self.own_obf = own_obf
        self.priority = priority
        self.block = _blocks().take()
        if not self.block:
            raise CircuitError(0, "too many circuits at a time")
        self.hops = [
            Hop(d, labels[i], os.urandom(S.LINK_KEY), HopMeter(d.region, source), self.block + 64 * i,
                self.block + 64 * i + 32, _windows().take_one())
            for i, d in enumerate(path)
        ]  # fmt: skip
        for hop in self.hops:
            hop.worker = secrets.randbelow(hop.descriptor.workers)
        last = self.hops[-1]
        if exit_worker is not None and exit_worker < last.descriptor.workers:
            last.worker = exit_worker
        first = self.hops[0]
        self.mac_backward = self.block + 528
        self.obf = self.block + 544
        self.name = self.block + 576
        self._mac = self.block + 608
        self._mac_word = ffi.u8(self._mac, 8).cast("Q")
        self._open: list[tuple[int, Hop, int, int]] = []  # hops that are ready: place, hop, backward key, window
        ffi.poke(self.mac_backward, handshake.backward_mac_key(first.link_key))
        ffi.poke(self.obf, first.descriptor.obf)
        self.sockaddr = net.pack_addr(*first.endpoint)
        ffi.poke(self.name, self.sockaddr)
        self.cid = cell.make_cid(os.urandom(8))  # under which the first hop speaks to us
        self.cid_words = cell.cid_words(self.cid)
        self.next_words = (0, 0)
        self.cookie: bytes | None = None
        self._first_message = b""
        self.sent = 0
        self.heard = self.exit_heard = self.born = time.monotonic()
        self.error: CircuitError | None = None
        self.resumed = False
        self.health = Health(len(path), self.born)
        self.steps_ms = [0.0] * len(path)  # how long each hop's handshake took
        self.starved = ""  # why no more tickets can be had for it
        self.starved_at = 0.0  # and since when
        self.data_at = 0.0  # when an inner packet went either way last
        self.retire_at = 0.0  # when it ends at the latest, once another one has taken over
        self.drops: dict[str, int] = {}

    def close(self) -> None:
        """Wipe the keys. The circuit must not be used any more."""
        self.resumed = False
        if self.block:
            for hop in self.hops:
                _windows().give(hop.window)
            _blocks().give(self.block)
            self.block = 0

    # -- building ---------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """Keys and counters are renewed long before they must be; tickets before their bitmap is full."""
        windows, most = _windows().u32, S.COUNTER_LIMIT // 2
        old = time.monotonic() - self.born > AGE_SECONDS or self.sent > most
        return old or any(windows[h.window] > most or len(h.meter.tickets) >= TICKETS_MOST for h in self.hops)

    @property
    def settled(self) -> bool:
        """Whether every hop has confirmed what it was paid."""
        return all(h.meter.settled for h in self.hops if h.ready)

    def _message1(self, i: int, reply_obf: bytes) -> bytes:
        hop = self.hops[i]
        hop.initiator = noise.Initiator(hop.descriptor.static, ephemeral=_ephemeral(hop))
        payload = handshake.payload1(hop.origin, hop.link_key, reply_obf, int(time.time()), self.priority)
        return bytes(hop.initiator.write(payload))

    def create(self) -> bytes:
        """The CREATE datagram to the first hop, with the cookie that the hop asked for. At every call the same Noise
        message (the hop may have answered it already) in a fresh coat."""
        first = self.hops[0]
        if not self._first_message:
            self._first_message = self._message1(0, self.own_obf)
        return bytes(handshake.create(first.descriptor.obf, self.cid, self._first_message, self.cookie))

    def on_stray(self, raw: bytes) -> bool:
        """A datagram, as it came, that our key does not open. True when it was the first hop's COOKIE: create again."""
        obf = self.hops[0].descriptor.obf
        if self.hops[0].ready or len(raw) < S.COOKIE_MIN:
            return False
        packet = sodium.stream_xor(obf, raw[-S.NONCE :], raw[: S.HEADER]) + raw[S.HEADER :]
        if packet[:8] != self.cid:
            return False
        self.cookie = handshake.open_cookie(packet, obf)
        return self.cookie is not None

    def on_created(self, packet: bytes) -> bool:
        """A handshake packet to our circuit id with its header unmasked. True when the first hop is ready."""
        first = self.hops[0]
        key = handshake.backward_mac_key(first.link_key)
        out = bytearray(8)
        SHORTHASH(ffi.addr(out), packet[:16], 16, key)
        if bytes(out) != packet[16:24] or first.ready or first.initiator is None:
            self.count("link-mac")
            return False
        try:
            kind, value = handshake.parse_reply(handshake.unmask_body(packet, self.own_obf))
            if kind == "refused":
                self.error = CircuitError(0, S.ERRORS.get(value, f"error {value}"))
            if kind != "created":
                return False
            self._finish(0, value)
        except (handshake.Malformed, CryptoError):
            self.count("created")
            return False
        self.next_words = cell.cid_words(packet[8:16])
        return True

    def _finish(self, i: int, message2: bytes) -> None:
        hop = self.hops[i]
        if hop.initiator is None or hop.ready:
            raise CryptoError("no handshake under way")
        try:
            handshake.parse_payload2(hop.initiator.read(message2))
        except handshake.Malformed:
            raise CryptoError("the payload of message 2 has another size") from None
        forward, backward = hop.initiator.keys
        ffi.poke(hop.k_forward, forward)
        ffi.poke(hop.k_backward, backward)
        hop.ready = True
        hop.initiator = None
        self._open.append((i, hop, hop.k_backward, hop.window))

    def extend_payload(self, i: int) -> bytes:
        """EXTEND payload for hop i - 1, which is to reach hop i."""
        hop = self.hops[i]
        previous = self.hops[i - 1].descriptor
        return bytes(hop.descriptor.raw + hop.link_key + self._message1(i, previous.obf))

    def on_extended(self, i: int, payload: bytes) -> None:
        """EXTENDED from hop i - 1. Raises CryptoError when hop i is not who its descriptor says."""
        self._finish(i, payload[: S.NOISE2])

    @property
    def built(self) -> int:
        """Number of hops that are ready."""
        return sum(h.ready for h in self.hops)

    # -- cells --------------------------------------------------------------------

    def count(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1

    def seal(self, target: int, v: SlotView, size: int, command: int) -> int:
        """Seal `size` payload bytes at 24 of the slot as a cell for hop `target`; returns the packet's size."""
        a, d, b = v.address, v.d, v.b
        number = self.sent
        if number >= S.COUNTER_LIMIT:
            raise CircuitError(target, "the circuit's counter is used up: build a new one")
        self.sent = number + 1
        n = 24 + size
        b[n] = command
        cell.set_counter(d, v.h, number, 0)
        # Nonce and associated data (wire/cell.py) are the same for all layers, and none is written to by the AEAD.
        d[1] = 0
        d[4] = cell.FORWARD
        body, nonce, ad = a + 24, a + 4, a + 8
        hops = self.hops
        for i in range(target, -1, -1):
            ENCRYPT(body, 0, body, n - 23, ad, 9, 0, nonce, hops[i].k_forward)
            n += 17
            b[n] = S.RELAY
        cell.dress_forward(a, n, d, self.next_words[0], self.next_words[1], self.obf)
        charge = n
        k = self.priority
        for i in range(target + 1):
            if i < target or command not in _UNCHARGED:
                hops[i].meter.used_bytes += charge << k
            charge -= 17
        return n

    def open(self, v: SlotView, n: int) -> tuple[int, int, int]:
        """Open a backward cell whose header is unmasked: (origin's index, command, payload size at a + 24).

        (-1, 0, 0) when it is dropped; why is counted.
        """
        a, d, b = v.address, v.d, v.b
        SHORTHASH(self._mac, a, 16, self.mac_backward)
        if self._mac_word[0] != v.mac[0]:
            return self._dropped("link-mac")
        number, high = d[2], d[3]
        whole = n
        if number >= S.COUNTER_LIMIT or high & 0x1FFF_FFFF:
            return self._dropped("counter")
        d[1] = 0
        d[4] = cell.BACKWARD
        body, nonce, ad = a + 24, a + 4, a + 8
        for i, hop, key, window in self._open:
            if n < S.PACKET_MIN:
                return self._dropped("layers")
            if DECRYPT(body, 0, 0, body, n - 24, ad, 9, nonce, key):
                return self._dropped("tag")
            n -= S.LAYER
            command = b[n]
            if command == S.RELAY:
                continue
            if hop.origin != high >> 29:
                return self._dropped("origin")
            windows = _WINDOWS[0]
            if number == windows.u32[window]:
                windows.u32[window] = number + 1
            elif windows.fresh(window, number):
                windows.take(window, number)
            else:
                return self._dropped("replay")
            hop.got += 1
            if number > hop.top:
                hop.top = number
            k = self.priority
            for j in range(i if command not in _CHARGED_BACKWARD else i + 1):
                self.hops[j].meter.used_bytes += whole << k
                whole -= S.LAYER
            self.heard = time.monotonic()
            if i == len(self.hops) - 1:
                self.exit_heard = self.heard
            return i, command, n - 24
        return self._dropped("layers")

    def _dropped(self, reason: str) -> tuple[int, int, int]:
        self.count(reason)
        return -1, 0, 0
