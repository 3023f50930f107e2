"""Being an anchor (protocol section 13): who sends a CREATE for a router behind its provider's NAT is told to that
router over the circuit that it keeps to us. All of it is bounded, and nothing of it touches the data path."""

from ..platform import clock, ffi, sodium
from ..wire import anchor as A
from ..wire import descriptor as D
from ..wire import handshake
from ..wire import sizes as S
from . import circuit as C

ASKED_MOST = 4  # ANCHORs a second whose signatures are checked
EACH_MOST = 8  # introductions a second to one router ...
ALL_MOST = 64  # ... and to all
TRIES_MOST = 2048  # keys tried a second on datagrams that are nothing of ours
PROVE_SECONDS = 180  # a router that shows no descriptor of a gateway keeps its place for so long


class Entry:
    """One router: its circuit to us, the key by which its CREATEs are known."""

    def __init__(self, c, relay, obf):
        self.c = c
        self.relay = relay
        self.obf = obf
        self.mac_key = handshake.create_mac_key(obf)
        self.proved = False  # a gateway has signed its descriptor
        self.age = 0  # seconds
        self.told = 0  # introductions of this second


class Anchors:
    """Of one relay process. `most` routers at a time, 0: none. `end(circuit)` ends one with ERROR 9."""

    def __init__(self, setup, count, end):
        self.setup = setup
        self.count = count
        self.end = end
        self.most = 0
        self.all = []
        self.told = 0
        self.tick()

    def tick(self):
        """Once a second."""
        self._asked = self._told = self._tries = 0
        if len(self.all) > self.most:  # the owner wants fewer
            self.end(self.all[-1].c)
        for entry in list(self.all):
            entry.told = 0
            entry.age += 1
            if entry.age > PROVE_SECONDS and not entry.proved:
                self.count("anchor-unproved")
                self.end(entry.c)

    def ask(self, c, payload):
        """An ANCHOR on circuit `c`. Returns 0 when it is granted, the error code to answer, or None for no answer."""
        if not self.most:
            return S.E_ANCHOR
        if self._asked >= ASKED_MOST:
            return self.count("anchor-busy")
        self._asked += 1
        now = clock.unix() if clock.is_set() else 0
        try:
            link_key = handshake.backward_mac_key(ffi.peek(c.k + C.P_MAC_B, S.LINK_KEY))  # its own inverse
            relay, obf, raw = A.verify(payload, self.setup.public, link_key, now)
            if raw and D.verify(raw, self.setup.gateway_keys, now).relay != relay:
                return S.E_SIGNATURE
        except A.Malformed:
            return S.E_SIGNATURE
        except D.BadDescriptor as e:
            return e.code
        old = [e for e in self.all if e.relay == relay or e.c is c]
        if len(self.all) - len(old) >= self.most:
            # Who asks costs us nothing to make: one whom no gateway knows gives way, the oldest first.
            strange = [e for e in self.all if not e.proved and e not in old]
            if not strange:
                return S.E_TABLE_FULL
            self.count("anchor-unproved")
            self.end(strange[0].c)
        entry = Entry(c, relay, obf)
        for e in old:
            entry.proved = entry.proved or e.proved
            self.all.remove(e)
        entry.proved = entry.proved or bool(raw)
        self.all.append(entry)
        self.setup.table.kept = [e.c for e in self.all]
        return 0

    def forget(self, c):
        """A circuit has ended."""
        if c in self.setup.table.kept:
            self.all = [e for e in self.all if e.c is not c]
            self.setup.table.kept = [e.c for e in self.all]

    def find(self, packet, sockaddr):
        """(circuit, INTRODUCE payload) for a datagram, unmasked under our key in vain; None when it is for no router of
        ours, or may not be passed on."""
        if not self.all or not S.CREATE_MIN <= len(packet) <= S.CREATE_MAX:
            return None
        nonce = packet[-S.NONCE :]
        raw = sodium.stream_xor(self.setup.obf, nonce, packet[: S.HEADER])
        for entry in self.all:
            if self._tries >= TRIES_MOST:
                return self.count("introduce-busy")
            self._tries += 1
            head = sodium.stream_xor(entry.obf, nonce, raw)
            if any(head[: S.CID]) or sodium.shorthash(entry.mac_key, head[:16]) != head[16:24]:
                continue
            if entry.told >= EACH_MOST or self._told >= ALL_MOST:
                return self.count("introduce-limit")
            entry.told += 1
            self._told += 1
            self.told += 1
            return entry.c, A.introduction(sockaddr, raw + packet[S.HEADER :])
        return None
