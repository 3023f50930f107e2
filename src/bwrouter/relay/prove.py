"""Bandwidth proofs: the relay's answer to PROVE (protocol section 12).

Keystream under a seed that the verifier has just made up cannot be had earlier, elsewhere, or shorter: what arrives in
time has been sent through this uplink. It goes only where customers leave room, through the same pacer, and is charged.
"""

from ..platform import arena, clock, ffi, frames
from ..platform.sodium import STREAM
from ..wire import proof
from ..wire import sizes as S

BATCH = 96  # chunks a turn: customers' cells wait for no more
ASK_MOST = 5  # times, once a second, that the agent is asked for a signature
BUSY_MOST = 36  # hours of "busy: household" that are saved up, as the chain excuses them: 36 h in 30 days
BUSY_HOUR_MS = 3_600_000
BUSY_REFILL_H = 20
_CELL = S.HEADER + S.LAYER + S.PROVE_PAYLOAD
_WIRE = _CELL + 48
_HEAD = S.KEY  # offset of the head of a chunk in the block: kind, zeros, index; the index begins the nonce
_MOVE = ffi.func(ffi.LIBC, "P", "memmove", "PPL")


class Busy:
    """How often a household may be named as the reason: an hour at a time, out of a budget that refills slowly."""

    def __init__(self):
        self.left = BUSY_MOST
        self._hour = -1  # of the last such answer
        self._hours = 0
        self._refilled = 0
        self._at = clock.ms()

    def tick(self):
        """Once a second."""
        if clock.diff(clock.ms(), self._at) >= BUSY_HOUR_MS:
            self._at = clock.add(self._at, BUSY_HOUR_MS)
            self._hours += 1
            self._refilled += 1
            if self._refilled >= BUSY_REFILL_H:
                self._refilled = 0
                self.left = min(BUSY_MOST, self.left + 1)

    def take(self):
        """Whether "busy" may be said now. All who ask within one hour cost one."""
        if self._hour == self._hours:
            return True
        if self.left <= 0:
            return False
        self.left -= 1
        self._hour = self._hours
        return True


class Proof:
    """One proof. `done` is the statement once the time is over, `answer` the CLOSE once it is signed."""

    def __init__(self, c, ms, seed, cells_out, bytes_out):
        self.c = c
        self.ms = ms
        self.id = proof.proof_id(seed)
        self.at = clock.ms()
        self.chunks = self.slots = self.stalled = 0
        self.slot = -1
        self.cells_before = cells_out
        self.kib_before = bytes_out
        self.done = None
        self.answer = None
        self.asked = 0


class Prover:
    """At most one proof at a time sends; `closing` holds those that wait for the agent's signature or were just closed.

    `loop` is the relay's Loop, `tell` sends a message to the agent. fill() sends what the pacer leaves and returns how
    long to wait before the next call, in ms; call it only while `now` is a proof.
    """

    def __init__(self, loop, tell):
        self.loop = loop
        self.tell = tell
        self.now = None
        self.closing = []
        self.busy = Busy()
        self._k = arena.take(4096)
        self._index = ffi.le32(self._k + _HEAD, 2)
        self.begin()

    def begin(self):
        """Ready to fill; again after an exception there."""
        self.fill = frames.step(self._filling())

    def command(self, c, payload):
        """A PROVE from the client's side. Returns 0, or the error code to answer."""
        try:
            ms, seed = proof.parse_start(payload)
        except proof.Malformed:
            return S.E_MALFORMED
        name = proof.proof_id(seed)
        for p in self.closing:
            if p.c is c and p.id == name:  # the CLOSE got lost
                if p.answer is not None:
                    self._say(c, p.answer)
                return 0
        if self.now is not None and self.now.c is c and self.now.id == name:
            return 0  # the START was repeated
        if not c.paid or c.left < _CELL << c.priority:
            return S.E_UNPAID
        status = S.PROVE_BEGUN
        if self.now is not None or len(self.closing) >= S.PROVE_CLOSING:
            status = S.PROVE_OCCUPIED
        elif self.loop.pacer.reason == "household" and self.busy.take():
            status = S.PROVE_BUSY
        self._say(c, proof.pack_begun(status, self.loop.pacer.rate, name))
        if status == S.PROVE_BEGUN:
            ffi.poke(self._k, seed + bytes([S.PROVE_CHUNK, 0, 0, 0]) + bytes(4) + name[:8])
            self.now = Proof(c, ms, seed, self.loop.cells_out, self._kib())
        return 0

    def _kib(self):
        return (self.loop.mib_out << 10) + (self.loop.bytes_out >> 10)

    def _say(self, c, payload):
        charge = S.HEADER + S.LAYER + len(payload) << c.priority
        if c.left >= charge:
            c.left -= charge
            self.loop.originate(c, S.PROVE, payload)

    def _filling(self):
        loop = self.loop
        pacer = loop.pacer
        index = self._index
        k = self._k
        wait = 0
        while True:
            yield wait
            p = self.now
            elapsed = clock.diff(clock.ms(), p.at)
            if elapsed >= p.ms:
                self._over(p, elapsed)
                wait = 100
                continue
            if loop.queue.count:
                wait = 1
                continue
            c = p.c
            charge = _CELL << c.priority
            tokens = pacer.tokens
            first = n = p.chunks
            end = n + BATCH
            while tokens > 0 and n < end:
                left = c.left - charge
                if left < 0:
                    break
                c.left = left
                i = loop.slot()
                a = loop.own_address(i)
                index[1] = n
                _MOVE(a + 24, k + 32, 8)
                STREAM(a + 32, 1360, k + 36, k)
                loop.seal_own(c, i, 1368, 7)
                tokens -= 1457
                n += 1
            p.chunks = n
            slot = elapsed // S.PROVE_SLOT_MS
            if slot != p.slot and (n > first or tokens > 0):
                p.slot = slot
                if n > first:
                    p.slots += 1
                else:
                    p.stalled += 1  # there was room, but nothing was paid for
            wait = 0 if n == end else pacer.wait_ms()

    def _over(self, p, elapsed):
        self.now = None
        carried = max(0, self._kib() - p.kib_before - (p.chunks * _CELL >> 10))
        p.done = proof.pack_statement(
            min(elapsed, 65535), p.id, p.chunks, p.slots, p.stalled, carried, p.c.sent, self.loop.pacer.rate,
            clock.unix(),
        )  # fmt: skip
        self.closing.append(p)
        self._ask(p)

    def _ask(self, p):
        p.asked += 1
        self.tell({"t": "prove", "statement": p.done.hex()})

    def signed(self, message):
        """The agent's signature of a statement."""
        done = bytes.fromhex(message["statement"])
        signature = bytes.fromhex(message["signature"])
        for p in self.closing:
            if p.done == done and p.answer is None and len(signature) == 64:
                p.answer = done + signature
                self._say(p.c, p.answer)

    def tick(self):
        """Once a second: ask the agent again, forget what is over."""
        self.busy.tick()
        kept = []
        for p in self.closing:
            if p.asked < ASK_MOST:
                kept.append(p)
                if p.answer is None:
                    self._ask(p)
                else:
                    p.asked += 1  # a lost CLOSE is said again for some seconds
        self.closing = kept

    def forget(self, c):
        """The circuit ends."""
        if self.now is not None and self.now.c is c:
            self.now = None
        self.closing = [p for p in self.closing if p.c is not c]


# `_filling` writes these as numbers: a global name costs a dictionary look-up per use.
assert (S.HEADER + 0, S.HEADER + S.PROVE_HEAD, S.PROVE_BYTES, S.PROVE_PAYLOAD, S.PROVE) == (24, 32, 1360, 1368, 7)
assert (_HEAD, _HEAD + 4, _WIRE) == (32, 36, 1457)
