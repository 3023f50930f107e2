"""Building circuits: answering CREATE, and extending to the next hop (protocol sections 3 to 5)."""

import gc

from ..platform import clock, ffi, net, sodium
from ..wire import address, handshake, noise
from ..wire import descriptor as D
from ..wire import sizes as S
from . import circuit as C
from .budget import Budget

RETRY_MS = 1000
TRIES = 3
ANSWER_MS = 4000  # for so long, at least, a repeated CREATE is answered again
ANSWERS_MOST = 32
SEEN_MOST = 4096  # ephemeral keys remembered against replayed CREATEs


class Pending:
    """An EXTEND waiting for its CREATED."""

    def __init__(self, packet_args, sockaddr, link_key, anchored=False):
        self.anchored = anchored  # the address is an anchor's: the answer comes from elsewhere
        self.packet_args = packet_args  # (obfuscation key of the next hop, our circuit id, Noise message 1)
        self.sockaddr = sockaddr
        self.link_key = link_key
        self.tries = 0
        self.at = clock.ms()


class Setup:
    """Handshakes of one relay process, worker `worker` of `workers`. `send(datagram, sockaddr)` sends; `count(name)`
    counts a drop; `displace(circuit)` ends one that keeps its place and does not pay."""

    def __init__(self, table, static_secret, obf_key, send, count, displace, worker=0, workers=1):
        self.table = table
        self.worker = worker
        self.workers = workers
        self.secret = static_secret
        self.public = sodium.x25519_public(static_secret)
        self.obf = obf_key
        self.mac_key = handshake.create_mac_key(obf_key)
        self.send = send
        self.count = count
        self.displace = displace
        self.gateway_keys = []
        self.own = []  # (prefix, bits) never extended to
        self.budget = Budget()
        self.pending = []  # circuits with an EXTEND under way
        self._seen = bytearray(8 * SEEN_MOST)  # a ring of 8-byte heads of ephemeral keys
        self._seen_at = 0
        self._answers = {}  # ephemeral key: (CREATED, sockaddr), of the last few seconds
        self._answers_before = {}  # and of those before
        self._answers_at = clock.ms()

    # -- answering -----------------------------------------------------------

    def introduced(self, packet, sockaddr):
        """A datagram that our anchor had from `sockaddr`. Returns the new circuit or None."""
        if address.refused(net.unpack_addr(sockaddr)[0], self.own):
            return self.count("introduce-address")
        head = sodium.stream_xor(self.obf, packet[-S.NONCE :], packet[: S.HEADER])
        if any(head[: S.CID]):
            return self.count("introduce-malformed")
        return self.on_create(head + packet[S.HEADER :], sockaddr, True)

    def on_create(self, packet, sockaddr, introduced=False):
        """A datagram whose header (already unmasked) has circuit id zero. Returns the new circuit or None."""
        if len(packet) < S.CREATE_MIN:
            return self.count("create-short")
        if sodium.shorthash(self.mac_key, packet[:16]) != packet[16:24]:
            return self.count("link-mac")
        try:
            cookie, noise1 = handshake.parse_create(handshake.unmask_body(packet, self.obf))
        except handshake.Malformed:
            return self.count("create-malformed")
        # The descriptor of a router behind an anchor names one worker.
        if not introduced and D.worker(noise1, self.workers) != self.worker:
            return self.count("create-worker")
        verdict = self.budget.admit(cookie, sockaddr)
        start = clock.us()
        if verdict == "cookie":
            reply = handshake.cookie(self.obf, packet[8:16], self.budget.cookie(sockaddr), len(packet))
            self.send(reply, sockaddr)
            self.budget.spend_cookie(clock.diff(clock.us(), start))
        if verdict != "yes":
            return self.count(verdict)
        try:
            c = self._answer(packet, noise1, sockaddr)
        except MemoryError:
            gc.collect()
            c = self.count("memory")
        self.budget.spend(clock.diff(clock.us(), start))
        return c

    def _answer(self, packet, noise1, sockaddr):
        """Do the handshake of a CREATE that was admitted."""
        ephemeral = noise1[:32]
        if ephemeral[:8] in self._seen:
            # The initiator repeats a CREATE whose answer got lost: say the same again, to the same address only.
            before = self._answers.get(ephemeral) or self._answers_before.get(ephemeral)
            if before is not None and before[1] == sockaddr:
                self.send(before[0], sockaddr)
                return None
            return self.count("create-replayed")
        responder = noise.Responder(self.secret, self.public)
        try:
            origin, flags, when, link_key, reply_obf = handshake.parse_payload1(responder.read(noise1))
        except sodium.CryptoError:
            return self.count("create-noise")
        except handshake.Malformed:
            return self.count("create-version")
        if clock.is_set() and abs(clock.unix() - when) > S.CLOCK_SKEW:
            return self.count("create-time")
        self._remember(ephemeral[:8])
        if self.table.full():
            # Or a handful of CREATEs a second, which cost nothing, would keep all buyers out.
            c = self.table.freeloader()
            if c is not None:
                self.displace(c)
        if self.table.full():
            reply = handshake.refused(reply_obf, packet[8:16], link_key, S.E_TABLE_FULL, len(packet))
            self._reply(ephemeral, reply, sockaddr)
            return self.count("table-full")
        c = self.table.add(origin, min(flags & 3, 2))
        noise2 = responder.write(handshake.payload2(clock.unix()))
        forward, backward = responder.keys
        k = c.k
        ffi.poke(k + C.K_F, forward)
        ffi.poke(k + C.K_B, backward)
        ffi.poke(k + C.P_OBF, reply_obf)
        ffi.poke(k + C.P_MAC_B, handshake.backward_mac_key(link_key))
        ffi.poke(k + C.P_ADDR, sockaddr)
        C.set_prev(c, packet[8:16])
        reply = handshake.created(reply_obf, packet[8:16], ffi.peek(k + C.OWN_CID, 8), link_key, noise2, len(packet))
        self._reply(ephemeral, reply, sockaddr)
        return c

    def _reply(self, ephemeral, reply, sockaddr):
        """Answer a CREATE, and again for a while should the answer get lost."""
        if len(self._answers) < ANSWERS_MOST:
            self._answers[ephemeral] = (reply, sockaddr)
        self.send(reply, sockaddr)

    def _remember(self, ephemeral):
        at = self._seen_at
        self._seen[at : at + 8] = ephemeral
        self._seen_at = (at + 8) % len(self._seen)

    # -- extending -----------------------------------------------------------

    def extend(self, c, payload):
        """Start an EXTEND of `c`. Returns 0, or the error code to answer."""
        if c.next != C.NEXT_NONE:
            # A repeated EXTEND is still under way, or its answer is said again (relay.do_extend).
            return 0 if c.next == C.NEXT_WAITING else S.E_EXTENDED
        if len(payload) < S.EXTEND_SIZE:
            return S.E_MALFORMED
        raw = payload[: S.DESCRIPTOR]
        link_key = payload[S.DESCRIPTOR : S.DESCRIPTOR + S.LINK_KEY]
        noise1 = payload[S.DESCRIPTOR + S.LINK_KEY : S.EXTEND_SIZE]
        try:
            d = D.verify(raw, self.gateway_keys, clock.unix() if clock.is_set() else 0)
        except D.BadDescriptor as e:
            return e.code
        where = self._reach(d, D.worker(noise1, d.workers))
        if where is None:
            return S.E_ADDRESS
        cid = self.table.new_cid(self.table.backward, c, C.NEXT_CID)
        c.next = C.NEXT_WAITING
        k = c.k
        ffi.poke(k + C.N_OBF, d.obf)
        ffi.poke(k + C.LINK, link_key)
        ffi.poke(k + C.N_MAC_B, handshake.backward_mac_key(link_key))
        ffi.poke(k + C.N_ADDR, where)
        c.extend = Pending((d.obf, cid, noise1), where, link_key, d.anchored)
        self.pending.append(c)
        self._try(c)
        return 0

    def other_next(self, c, payload):
        """Whether an EXTEND names another link key than the one that `c` was extended with."""
        return payload[S.DESCRIPTOR : S.DESCRIPTOR + S.LINK_KEY] != ffi.peek(c.k + C.LINK, S.LINK_KEY)

    def _reach(self, d, worker):
        """sockaddr of a worker at the descriptor's first address that may be spoken to, or None."""
        if d.port4 and d.port4 + worker < 65536 and not address.refused(d.v4, self.own):
            return net.pack_addr(net.ip_text(d.v4), d.port4 + worker)
        if d.port6 and d.port6 + worker < 65536 and not address.refused(d.v6, self.own):
            return net.pack_addr(net.ip_text(d.v6), d.port6 + worker)
        return None

    def _try(self, c, cookie=None):
        p = c.extend
        p.tries += 1
        p.at = clock.ms()
        self.send(handshake.create(p.packet_args[0], p.packet_args[1], p.packet_args[2], cookie), p.sockaddr)

    def on_reply(self, c, packet, sockaddr):
        """A handshake packet of `sockaddr` to a circuit that waits for one. Returns ("created", Noise message 2)
        when the circuit is extended, ("refused", code) when the next hop wants no circuit, None when the packet was
        dropped."""
        if sodium.shorthash(handshake.backward_mac_key(c.extend.link_key), packet[:16]) != packet[16:24]:
            return self.count("link-mac")
        try:
            kind, value = handshake.parse_reply(handshake.unmask_body(packet, self.obf))
        except handshake.Malformed:
            return self.count("created-malformed")
        if kind == "cookie":
            return self.count("created-malformed")
        if kind == "refused":
            self.forget(c)
            return kind, value
        if c.extend.anchored:
            # From behind its NAT: only it knows the link key, so this is where it is.
            if address.refused(net.unpack_addr(sockaddr)[0], self.own):
                return self.count("created-address")
            ffi.poke(c.k + C.N_ADDR, sockaddr)
        C.set_next(c, packet[8:16])
        c.next = C.NEXT_READY
        ffi.poke(c.k + C.MESSAGE2, value)
        c.extend = None
        self.pending.remove(c)
        return kind, value

    def on_stray(self, packet, obf):
        """A packet to no circuit of ours, unmasked under our key `obf` in vain: the COOKIE of a busy next hop, which is
        masked under that hop's own key? True when it was one."""
        if not self.pending or not S.COOKIE_MIN <= len(packet) <= S.COOKIE_MIN + S.PAD_MAX:
            return False
        nonce = packet[-S.NONCE :]
        raw = sodium.stream_xor(obf, nonce, packet[: S.HEADER])
        for c in self.pending[:8]:
            p = c.extend
            head = sodium.stream_xor(p.packet_args[0], nonce, raw)
            if head[:8] == p.packet_args[1]:
                value = handshake.open_cookie(head + packet[S.HEADER :], p.packet_args[0])
                if value is not None and p.tries < TRIES:
                    self._try(c, value)
                return value is not None
        return False

    def tick(self):
        """Repeat or give up EXTENDs. Returns the circuits that got no answer."""
        failed = []
        now = clock.ms()
        if clock.diff(now, self._answers_at) > ANSWER_MS:
            self._answers_before = self._answers
            self._answers = {}
            self._answers_at = now
        for c in list(self.pending):
            if clock.diff(now, c.extend.at) >= RETRY_MS:
                if c.extend.tries >= TRIES:
                    self.forget(c)
                    failed.append(c)
                else:
                    # The same message 1: a relay that has answered it already drops the copy as replayed, so each
                    # try that got through counts once.
                    self._try(c)
        return failed

    def forget(self, c):
        """Undo an EXTEND that is under way."""
        if c.extend is not None:
            self.pending.remove(c)
            self.table.drop_cid(self.table.backward, c, C.NEXT_CID)
            c.extend = None
            c.next = C.NEXT_NONE
