"""Reached through another router (protocol section 13): the circuit to an anchor is made, kept and replaced here.

It stands in the agent's first process, which never blocks, so that an introduction reaches the relay within
milliseconds. `offer` says who may serve; one of them is kept, and what it says is handed to `introduce`.
"""

import os

from ..platform import clock, net, sodium
from ..wire import anchor, descriptor
from ..wire import sizes as S
from .link import Link

RETRY_MS = 1000
TRIES = 3
PING_MS = 20_000  # NATs forget a UDP flow after 30 s and more (RFC 4787 asks for 120)
AGAIN_MS = 2000  # while a PING is not answered
MISSED_MOST = 4
RENEW_MS = 3_000_000  # keys serve an hour
OVERLAP_MS = 240_000  # buyers look at the directory every two minutes
WAIT_MS = (5000, 300_000)  # after all have failed: doubled from the first to the second
READ_MOST = 32

MAKING, ASKING, UP = 0, 1, 2


class Anchor:
    """`changed()` is called when `place` did: (4 bytes, port) at which the anchor is spoken to for us, or None."""

    def __init__(self, keys, introduce, changed, log):
        self.keys = keys
        self.introduce = introduce
        self.changed = changed
        self.log = log
        self.fd = -1
        self.place = None
        self.name = ""  # the anchor's id in hex
        self.error = ""
        self.introduced = 0
        self._offers = []
        self._bad = []  # ids that have failed since all had
        self._links = []  # the one in use first
        self._proofs = {}  # our descriptor by the id of the gateway that signed it
        self._next = clock.ms()
        self._wait = WAIT_MS[0]

    def offer(self, raws):
        """Who may be asked: descriptors (286 bytes) that hold; none: no anchor is needed."""
        self._offers = [descriptor.parse(raw) for raw in raws]
        if raws and self.fd < 0:
            self.fd = net.udp_socket(0)
        elif not raws:
            self.close()

    def prove(self, raw):
        """Our descriptor, as a gateway signed it: an anchor keeps only whom its gateway knows."""
        self._proofs[raw[S.DESCRIPTOR_RELAY_PART + 1 :][:8]] = raw

    def close(self):
        """Take leave."""
        for link in self._links:
            self._leave(link)
        self._links = []
        if self.fd >= 0:
            net.close(self.fd)
        self.fd = -1
        self._told()

    # -- each turn ---------------------------------------------------------------

    def tick(self):
        """Make, keep, renew: whatever is due."""
        if self.fd < 0:
            return
        now = clock.ms()
        for link in list(self._links):
            if link.phase == UP:
                self._keep(link, now)
            elif clock.diff(now, link.at) >= RETRY_MS:
                if link.tries >= TRIES:
                    self._fail(link, "no answer")
                elif link.phase == MAKING:
                    self._send(link, link.create())
                else:
                    self._ask(link)
        up = self._links[0] if self._links and self._links[0].phase == UP else None
        making = any([link.phase != UP for link in self._links])
        if not making and (up is None or clock.diff(now, up.since) > RENEW_MS) and clock.diff(now, self._next) >= 0:
            self._begin(up, now)

    def _begin(self, up, now):
        """A circuit to the anchor in use, or to one that has not failed lately."""
        fresh = [d for d in self._offers if d.relay not in self._bad and d.relay != self.keys.relay]
        mine = [d for d in fresh if up is not None and d.relay == up.d.relay]
        fresh = mine or fresh
        if not fresh:
            self._bad = []
            self._next = clock.add(now, self._wait)
            self._wait = min(2 * self._wait, WAIT_MS[1])
            return
        if up is not None:
            self._next = clock.add(now, PING_MS)  # a renewal that fails is not tried again at once
        try:
            link = Link(fresh[int.from_bytes(os.urandom(2), "little") % len(fresh)])
        except sodium.CryptoError:
            return
        link.phase, link.tries, link.missed, link.proof = MAKING, 0, 0, MAKING
        link.since = link.pinged = now
        self._links.append(link)
        self._send(link, link.create())

    def _proof(self, link):
        """Our descriptor as the anchor's own gateway signed it; empty without one."""
        proof = self._proofs.get(link.d.raw[S.DESCRIPTOR_RELAY_PART + 1 :][:8], b"")
        return proof if proof and descriptor.parse(proof).until > clock.unix() else b""

    def _keep(self, link, now):
        if clock.diff(now, link.since) > OVERLAP_MS:  # one that takes us and lets us go at once is no better than none
            self._bad, self._wait = [], WAIT_MS[0]
        if link.proof != UP and clock.diff(now, link.at) >= AGAIN_MS and self._proof(link):
            self._ask(link)
        if link is not self._links[0] and clock.diff(now, self._links[0].since) > OVERLAP_MS:
            self._leave(link)
            self._links.remove(link)
        elif clock.diff(now, link.pinged) >= (AGAIN_MS if link.missed else PING_MS):
            if link.missed >= MISSED_MOST:
                return self._fail(link, "it fell silent")
            link.missed += 1
            link.pinged = now
            self._send(link, link.seal(S.PING, os.urandom(8)))

    def _send(self, link, datagram):
        link.tries += 1
        link.at = clock.ms()
        net.sendto(self.fd, datagram, link.where)

    def _ask(self, link):
        now = clock.unix()
        text = anchor.pack(self.keys.relay, self.keys.identity, self.keys.obf, link.d.static, link.link_key, now)
        proof = self._proof(link)
        link.proof = ASKING if proof else MAKING
        self._send(link, link.seal(S.ANCHOR, text + proof))

    def _leave(self, link):
        if link.theirs is not None:
            net.sendto(self.fd, link.seal(S.DESTROY, bytes([0])), link.where)

    def _fail(self, link, why):
        self.error = "anchor %s: %s" % (link.d.relay.hex()[:16], why)
        self.log.info(self.error)
        if link.phase == UP:
            self._next = clock.ms()
        self._leave(link)
        self._links.remove(link)
        if link.d.relay not in self._bad:
            self._bad.append(link.d.relay)
        self._told()

    def _told(self):
        """Say so when another place is ours."""
        up = [link for link in self._links if link.phase == UP]
        place = (up[0].d.v4, up[0].port) if up else None
        self.name = up[0].d.relay.hex() if up else ""
        if place != self.place:
            self.place = place
            self.changed()

    # -- what comes --------------------------------------------------------------

    def read(self):
        """Take what waits."""
        for _ in range(READ_MOST):
            raw = net.recvfrom(self.fd)[0] if self.fd >= 0 else None
            if raw is None:
                return
            for link in self._links:
                said = link.take(raw)
                if said is not None:
                    self._heard(link, said[0], said[1])
                    break

    def _heard(self, link, command, payload):
        if link.phase == MAKING:
            if command == S.COOKIE and link.tries <= TRIES:
                self._send(link, link.create())
            elif command == S.REFUSED:
                self._fail(link, S.ERRORS.get(payload[0], "refused"))
            elif command == S.CREATED:
                link.phase, link.tries = ASKING, 0
                self._ask(link)
            return
        link.missed = 0
        if command == S.ANCHOR and link.proof == ASKING:
            link.proof = UP
        if command == S.ANCHOR and link.phase == ASKING:
            link.phase = UP
            link.since = clock.ms()
            self._links.remove(link)
            self._links.insert(0, link)
            self.error = ""
            self.log.info("reached through %s" % link.d.relay.hex()[:16])
            self._told()
        elif command == S.INTRODUCE:
            self.introduced += 1
            self.introduce(payload)
        elif command == S.PING:
            self._send(link, link.seal(S.PONG, payload[:8]))
        elif command == S.DESTROY:
            self._fail(link, S.ERRORS.get(payload[0] if payload else 0, "it took leave"))
        elif command == S.ERROR and len(payload) == 2 and payload[1] == S.ANCHOR:
            self._fail(link, S.ERRORS.get(payload[0], "refused"))
