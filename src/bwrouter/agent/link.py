"""A circuit of one hop, kept by the agent: what a buyer does, in little (protocol sections 3 and 4)."""

import os
import struct

from ..platform import clock, net, sodium
from ..wire import cell, handshake, noise
from ..wire import descriptor as D
from ..wire import sizes as S


class Link:
    """To the relay of descriptor `d`, over IPv4. Raises CryptoError when its static key is none."""

    def __init__(self, d):
        self.d = d
        self.cid = bytes(cell.make_cid(os.urandom(8)))
        self.origin = 1 + os.urandom(1)[0] % 7
        self.obf, self.link_key = os.urandom(32), os.urandom(S.LINK_KEY)
        self._noise = noise.Initiator(d.static)
        self._message = self._noise.write(handshake.payload1(self.origin, self.link_key, self.obf, clock.unix()))
        self._cookie = None
        self.port = d.port4 + D.worker(self._message, d.workers)
        self.where = net.pack_addr(net.ip_text(d.v4), self.port)
        self.theirs = None  # circuit id at the relay: the circuit stands
        self._keys = None
        self._sent = 0
        self._seen = -1

    def create(self):
        """The CREATE; the same Noise message in a fresh coat at every call."""
        return handshake.create(self.d.obf, self.cid, self._message, self._cookie)

    def seal(self, command, payload=b""):
        """A cell for the relay."""
        counter = struct.pack("<II", self._sent, 0)
        self._sent += 1
        body = sodium.aead_seal(self._keys[0], bytes(4) + counter, counter + bytes([cell.FORWARD]),
                                payload + bytes([command]))  # fmt: skip
        head = self.theirs + counter + bytes(S.MAC)
        return sodium.stream_xor(self.d.obf, body[-S.NONCE :], head) + body

    def take(self, raw):
        """What a datagram says: (command, payload) of a cell, (CREATED, b"") once the circuit stands, (COOKIE, b"")
        when CREATE is to be sent again, (REFUSED, code); None when it says nothing to us."""
        if len(raw) < S.HEADER + S.TAIL + 1:
            return None
        packet = sodium.stream_xor(self.obf, raw[-S.NONCE :], raw[: S.HEADER]) + raw[S.HEADER :]
        if packet[: S.CID] != self.cid:
            return self._stray(raw) if self.theirs is None else None
        if sodium.shorthash(handshake.backward_mac_key(self.link_key), packet[:16]) != packet[16 : S.HEADER]:
            return None
        try:
            return self._reply(packet) if self.theirs is None else self._cell(packet)
        except (handshake.Malformed, sodium.CryptoError):
            return None

    def _reply(self, packet):
        kind, value = handshake.parse_reply(handshake.unmask_body(packet, self.obf))
        if kind == "refused":
            return S.REFUSED, bytes([value])
        if kind != "created":
            return None
        handshake.parse_payload2(self._noise.read(value))
        self._keys = self._noise.keys
        self.theirs = packet[8:16]
        return S.CREATED, b""

    def _cell(self, packet):
        counter = packet[8:16]
        low, high = struct.unpack("<II", counter)
        # In order only: what was overtaken is lost, as on any path.
        if low >= S.COUNTER_LIMIT or high != self.origin << 29 or low <= self._seen:
            return None
        text = sodium.aead_open(self._keys[1], bytes(4) + counter, counter + bytes([cell.BACKWARD]), packet[S.HEADER :])
        self._seen = low
        return text[-1], text[:-1]

    def _stray(self, raw):
        """The COOKIE of a busy relay is masked under its own key."""
        packet = sodium.stream_xor(self.d.obf, raw[-S.NONCE :], raw[: S.HEADER]) + raw[S.HEADER :]
        if packet[: S.CID] != self.cid:
            return None
        value = handshake.open_cookie(packet, self.d.obf)
        if value is None:
            return None
        self._cookie = value
        return S.COOKIE, b""
