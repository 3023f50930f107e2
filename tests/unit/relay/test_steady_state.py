"""The data path allocates nothing per cell: 10^5 cells through real sockets, and the heap stays where it was."""

import gc
import os
import sys

from bwrouter.platform import arena, ffi, mmsg, net
from bwrouter.relay import circuit as C
from bwrouter.relay import loop, pacing
from bwrouter.wire import cell

MICROPYTHON = hasattr(gc, "mem_alloc")
BATCH = 120
CELLS = 100000
INNER = 1368  # full cells: their size is learnt, shorter ones are moved
LESS = 24 + 17 * 2 + INNER
FULL = LESS + 17
ORIGIN = 5  # of the next hop


def allocated():
    """Bytes of MicroPython's heap in use, or blocks of CPython's."""
    return gc.mem_alloc() if MICROPYTHON else sys.getallocatedblocks()


class Scene:
    """A loop on a socket of its own, a socket on each side of it, and one circuit through it."""

    def __init__(self, offload, rare=None):
        self.obf = arena.take(4096)
        obf = os.urandom(32)
        ffi.poke(self.obf, obf)
        self.table = C.Table(4)
        self.pacer = pacing.Pacer(64)
        self.fd = net.udp_socket(0, "::1")
        self.prev = net.udp_socket(0, "::1")
        self.next = net.udp_socket(0, "::1")
        for fd in (self.fd, self.prev, self.next):
            net.buffers(fd, 1 << 20, 1 << 20)
        self.loop = loop.Loop(self.fd, self.table, obf, self.pacer, rare, offload)
        self.here = arena.take(4096)
        ffi.poke(self.here, net.pack_addr("::1", net.local_port(self.fd)))
        c = self.circuit = self.table.add(3)
        for at in (C.K_F, C.K_B, C.P_OBF, C.N_OBF):
            ffi.poke(c.k + at, os.urandom(32))
        ffi.poke(c.k + C.P_ADDR, net.pack_addr("::1", net.local_port(self.prev)))
        ffi.poke(c.k + C.N_ADDR, net.pack_addr("::1", net.local_port(self.next)))
        C.set_prev(c, cell.make_cid(os.urandom(8)))
        C.set_next(c, cell.make_cid(os.urandom(8)))
        self.table.new_cid(self.table.backward, c, C.NEXT_CID)
        c.next = C.NEXT_READY
        base = arena.take(BATCH * mmsg.SLOT)
        self.slots = [base + i * mmsg.SLOT for i in range(BATCH)]
        self.d = [ffi.le32(a, 6) for a in self.slots]
        self.h = [ffi.le16(a, 12) for a in self.slots]
        self.senders = (mmsg.Sender(self.prev, BATCH), mmsg.Sender(self.next, BATCH))
        self.sinks = (mmsg.Receiver(self.next, 256), mmsg.Receiver(self.prev, 256))
        self.numbers = [0, 0]

    def send(self, backward, last=1, count=BATCH):
        """One batch of cells towards the loop; `last`: the command of the last forward one."""
        c = self.circuit
        number = self.numbers[backward]
        self.numbers[backward] = number + count
        own = cell.cid_words(ffi.peek(c.k + (C.NEXT_CID if backward else C.OWN_CID), 8))
        for i in range(count):
            a = self.slots[i]
            d = self.d[i]
            if backward:
                cell.set_counter(d, self.h[i], number + i, ORIGIN)
                cell.dress_backward(a, LESS, d, own[0], own[1], c.k + C.N_MAC_B, self.obf)
            else:
                cell.set_counter(d, self.h[i], number + i, 0)
                ffi.poke(a + FULL - 17, bytes([last if i == count - 1 else 1]))
                cell.seal_layer(a, FULL - 16, d, c.k + C.K_F, cell.FORWARD)
                cell.dress_forward(a, FULL, d, own[0], own[1], self.obf)
            self.senders[backward].put(a, LESS if backward else FULL, self.here)
        self.senders[backward].flush()

    def forward_all(self):
        """Let the loop take and send all that waits; returns how many cells it took."""
        taken = 0
        while True:
            n = self.loop.receive()
            self.loop.flush()
            if not n:
                return taken
            taken += n

    def arrived(self, backward):
        """How many cells came out on the other side."""
        sink = self.sinks[backward]
        count = 0
        while True:
            messages = sink.receive(64)
            if not messages:
                return count
            for m in range(messages):
                count += sink.cells(m)
            sink.done()

    def close(self):
        for fd in (self.fd, self.prev, self.next):
            net.close(fd)


def flat(offload, cells):
    """Send cells in both directions in turn. Returns how much the heap grew in the loop after the first batches."""
    s = Scene(offload)
    taken = grown = out = turn = 0
    gc.collect()
    gc.disable()
    while taken < cells:
        backward = turn & 1
        s.circuit.left = 1 << 29
        s.pacer.tokens = 1 << 29
        s.send(backward)
        before = allocated()
        taken += s.forward_all()
        if turn >= 4:  # the first batches of each direction may: windows
            grown += allocated() - before
        out += s.arrived(backward)
        turn += 1
        if turn % 100 == 0 and MICROPYTHON:
            gc.collect()
    gc.enable()
    assert not s.loop.drops, s.loop.drops
    assert out == taken, (out, taken)
    s.close()
    return grown


class Full:
    """What is rare finds no memory."""

    def on_command(self, c, command, payload, charge):
        raise MemoryError


def test_a_batch_that_is_broken_off_leaves_nothing_to_the_next():
    """Its cells were sent after the next batch's, in the place of that, and to its own neighbour."""
    s = Scene(False, Full())
    s.pacer.tokens = 1 << 29
    s.send(0, 3, 8)
    try:
        s.forward_all()
        broken = False
    except MemoryError:
        broken = True
        s.loop.begin()
    assert broken
    for backward in (0, 1, 0):
        s.circuit.left = s.pacer.tokens = 1 << 29
        s.send(backward, count=3)
        assert s.forward_all() == 3
        assert (s.arrived(backward), s.arrived(1 - backward)) == (3, 0)
    assert not s.loop.drops, s.loop.drops
    s.close()


def test_no_allocation_per_cell_with_offload():
    grown = flat(True, CELLS)
    assert grown <= allowed(CELLS), "%d allocated in %d cells" % (grown, CELLS)


def test_no_allocation_per_cell_without_offload():
    grown = flat(False, 10000)
    assert grown <= allowed(10000), "%d allocated in 10000 cells" % grown


def allowed(cells):
    """Nothing at all; CPython keeps free lists of its own making, which are no growth per cell."""
    return 0 if MICROPYTHON else cells // 10
