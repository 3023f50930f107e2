"""The responder of bandwidth proofs on a real loop and socket; what strangers may not make it do."""

import gc
import os
import sys

sys.path.insert(0, __file__.rpartition("/")[0])  # MicroPython has done so already
import test_steady_state as steady

from bwrouter.platform import clock, ffi, sodium
from bwrouter.relay import prove
from bwrouter.wire import cell, proof
from bwrouter.wire import sizes as S

SEED = bytes(range(32))


class Scene(steady.Scene):
    def __init__(self):
        super().__init__(True)
        self.told = []
        self.prover = prove.Prover(self.loop, self.told.append)
        c = self.circuit
        c.paid = 100
        c.left = 1 << 29
        ffi.poke(c.k + 128, os.urandom(16))
        self.pacer.rate = 100000
        self.pacer.tokens = 1 << 20
        self.keys = sodium.ed25519_keypair(b"\x05" * 32)

    def start(self, ms=50, seed=SEED):
        return self.prover.command(self.circuit, proof.pack_start(ms, seed))

    def heard(self):
        """(command, payload) of every cell that came to the previous end."""
        out = []
        sink = self.sinks[1]
        k = self.circuit.k
        self.loop.flush()
        while True:
            messages = sink.receive(64)
            if not messages:
                return out
            for m in range(messages):
                count = sink.cells(m)
                for j in range(count):
                    n = sink.size if j < count - 1 else sink.last
                    a = sink.base + (m * sink.per + j) * steady.mmsg.SLOT
                    d = ffi.le32(a, 6)
                    cell.mask(a, n, k + 64)
                    assert cell.open_layer(a, n, d, k + 32, cell.BACKWARD)
                    out.append((ffi.peek(a + n - 17, 1)[0], ffi.peek(a + 24, n - 41)))
            sink.done()

    def serve(self):
        """Fill until the proof is over."""
        out = []
        while self.prover.now is not None:
            self.pacer.tokens = min(self.pacer.tokens + 3000, 20000)
            self.prover.fill()
            out += self.heard()
        return out

    def sign(self):
        statement = bytes.fromhex(self.told[-1]["statement"])
        signature = proof.sign(self.keys[1], statement)
        self.prover.signed({"statement": statement.hex(), "signature": signature.hex()})


def test_a_proof_from_start_to_close():
    s = Scene()
    assert s.start() == 0
    heard = s.serve() + s.heard()
    assert [h[0] for h in heard] == [S.PROVE] * len(heard)
    assert proof.parse_begun(heard[0][1]) == (S.PROVE_BEGUN, 100000, proof.proof_id(SEED))
    chunks = [h[1] for h in heard[1:]]
    assert len(chunks) > 4  # as many as the machine makes in the time of a proof: an emulated CPU beside others makes few
    for i in range(len(chunks)):
        assert len(chunks[i]) == S.PROVE_PAYLOAD
        assert chunks[i][:8] == bytes([S.PROVE_CHUNK, 0, 0, 0]) + i.to_bytes(4, "little")
        if i % 16 == 0:
            assert chunks[i][8:] == proof.keystream(SEED, i)
    s.sign()
    ((command, close),) = s.heard()
    fields = proof.verify(s.keys[0], close)
    assert command == S.PROVE and len(close) == S.PROVE_CLOSE_SIZE
    assert fields[0] >= 50 and fields[1] == proof.proof_id(SEED) and fields[2] == len(chunks)
    assert 1 <= fields[3] <= 6 and fields[6] == len(chunks) + 1  # slots; the circuit's counter
    charged = (1 << 29) - s.circuit.left
    assert charged == len(chunks) * 1409 + (24 + 41) + (108 + 41)
    s.close()


def test_a_lost_close_is_said_again_and_no_other_proof_begins():
    s = Scene()
    s.start()
    s.serve()
    s.sign()
    (first,) = s.heard()
    assert s.start() == 0 and s.prover.now is None
    assert s.heard() == [first]
    for _ in range(prove.ASK_MOST + 1):
        s.prover.tick()
    assert not s.prover.closing
    s.close()


def test_signatures_that_do_not_come_or_belong_elsewhere():
    s = Scene()
    s.start()
    s.serve()
    s.prover.signed({"statement": bytes(44).hex(), "signature": bytes(64).hex()})
    assert s.heard() == []
    for _ in range(10):
        s.prover.tick()
    assert len(s.told) == prove.ASK_MOST and not s.prover.closing
    s.close()


def test_floods_of_proofs():
    s = Scene()
    assert s.start() == 0
    assert s.start() == 0  # repeated: nothing more
    assert [proof.parse_begun(h[1])[0] for h in s.heard()] == [S.PROVE_BEGUN]
    for i in range(200):
        assert s.start(seed=bytes([i]) * 32) == 0
    answers = [proof.parse_begun(h[1])[0] for h in s.heard()]
    assert answers == [S.PROVE_OCCUPIED] * 200
    assert s.prover.now.id == proof.proof_id(SEED) and not s.prover.closing
    # Closing ones that the agent does not sign are bounded too.
    for i in range(20):
        s.prover.now = None
        s.prover.closing.append(prove.Proof(s.circuit, 50, bytes([i]) * 32, 0, 0))
        s.start(seed=bytes([99, i]) * 16)
    assert s.prover.now is not None or len(s.prover.closing) >= S.PROVE_CLOSING
    s.prover.forget(s.circuit)
    assert s.prover.now is None and not s.prover.closing
    s.close()


def test_nobody_gets_a_proof_for_nothing():
    s = Scene()
    s.circuit.paid = 0
    assert s.start() == S.E_UNPAID
    s.circuit.paid = 1
    s.circuit.left = 1408
    assert s.start() == S.E_UNPAID and s.heard() == []
    # What is paid for is sent, and no more.
    s.circuit.left = 65 + 10 * 1409 + 1408
    assert s.start(30000) == 0
    heard = s.heard()
    for _ in range(4):
        s.pacer.tokens = 20000
        s.prover.now.slot = -1
        s.prover.fill()
        heard += s.heard()
    assert len(heard) == 1 + 10 and s.circuit.left == 1408
    assert s.prover.now.slots == 1 and s.prover.now.stalled == 3
    s.close()


def test_malformed_starts():
    s = Scene()
    good = proof.pack_start(100, SEED)
    for bad in (b"", good[:35], b"\x02" + good[1:], proof.pack_start(49, SEED), proof.pack_start(30001, SEED)):
        assert s.prover.command(s.circuit, bad) == S.E_MALFORMED
    assert s.prover.now is None and s.heard() == []
    s.close()


def test_customers_go_first():
    s = Scene()
    s.start()
    s.heard()
    s.prover.now.ms = 1000
    s.pacer.tokens = -1
    s.prover.fill()
    assert s.prover.now.chunks == 0 and s.heard() == []
    s.loop.queue.count = 1
    s.pacer.tokens = 10000
    assert s.prover.fill() == 1 and s.prover.now.chunks == 0
    s.loop.queue.count = 0
    s.prover.fill()
    assert 7 <= s.prover.now.chunks <= 8  # 10,000 tokens and not a turn more
    s.close()


def test_busy_household_within_its_budget():
    s = Scene()
    s.pacer.reason = "household"
    busy = s.prover.busy
    for _ in range(10):  # a whole committee in one hour costs one hour
        s.start()
    assert [proof.parse_begun(h[1])[0] for h in s.heard()] == [S.PROVE_BUSY] * 10
    assert busy.left == prove.BUSY_MOST - 1 and s.prover.now is None
    taken = 1
    for _ in range(60):
        busy._at = clock.add(clock.ms(), -prove.BUSY_HOUR_MS)
        busy.tick()
        taken += busy.take()
    assert taken == prove.BUSY_MOST + 3  # one more after 20, 40 and 60 hours
    busy._hour = -1
    busy.left = 0
    s.start()
    assert [proof.parse_begun(h[1])[0] for h in s.heard()] == [S.PROVE_BEGUN]
    s.close()


def test_forged_closes():
    keys = sodium.ed25519_keypair(b"\x06" * 32)
    statement = proof.pack_statement(100, proof.proof_id(SEED), 7, 9, 0, 0, 8, 1000, 1800000000)
    close = statement + proof.sign(keys[1], statement)
    assert proof.verify(keys[0], close)[2] == 7
    for at in (0, 1, 3, 20, 43, 44, 107):
        bad = bytearray(close)
        bad[at] ^= 1
        assert raised(keys[0], bytes(bad))
    assert raised(bytes(32), close) and raised(keys[0], close[:-1])


def raised(relay, close):
    try:
        proof.verify(relay, close)
    except proof.Malformed:
        return True
    return False


def test_the_agent_signs_nothing_but_statements():
    keys = sodium.ed25519_keypair(b"\x06" * 32)
    for bad in (b"", bytes(44), bytes(43), proof.pack_statement(1, bytes(16), 0, 0, 0, 0, 0, 0, 0) + b"x"):
        try:
            proof.sign(keys[1], bad)
        except proof.Malformed:
            continue
        raise AssertionError(bad)


def test_no_allocation_per_chunk():
    s = Scene()
    s.start(30000)
    s.heard()
    grown = 0
    gc.collect()
    gc.disable()
    for turn in range(100):
        s.circuit.left = 1 << 29
        s.pacer.tokens = 1 << 20
        before = steady.allocated()
        s.prover.fill()
        s.loop.flush()
        if turn >= 4:
            grown += steady.allocated() - before
        s.arrived(1)
    gc.enable()
    assert s.prover.now.chunks == 100 * prove.BATCH
    # The clock's few numbers a turn (microseconds are no small ints on 32 bits), nothing for each of the 96 chunks.
    assert grown <= (96 * 32 if steady.MICROPYTHON else 2000), grown
    s.close()
