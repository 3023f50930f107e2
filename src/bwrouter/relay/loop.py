"""The relay's data path: one socket, batches in and out, nothing allocated per cell in the steady state.

`_receiving` and `_reading` are long on purpose: a call costs MicroPython as much as ten plain steps, and every cell
goes through here. They are generators, so that a batch costs no memory either (platform/frames.py).
"""

import os

from ..platform import arena, ffi, frames, mmsg, net, sodium
from ..platform.sodium import DECRYPT, ENCRYPT, SHORTHASH, STREAM_XOR
from ..wire import cell
from ..wire import sizes as S
from . import circuit as C
from . import exit, pacing, queue

SLOTS = 256
SLACK = 1500  # bytes: one packet more than the tokens at hand is sent rather than copied
OWN = 48  # slots for cells that this hop originates
SLOT = mmsg.SLOT
_HEADER_V6 = pacing.OUR_HEADERS  # what a datagram costs on the wire beside itself, at most
_MEMCMP = ffi.func(ffi.LIBC, "i", "memcmp", "PPL")


class Loop:
    """Moves cells. What is rare goes to `rare` (relay.Relay): on_create, on_reply, on_command.

    receive() takes one batch from the socket, forwards it and returns the number of packets; from_tun() takes packets
    from the exit's TUN towards their buyers and returns how many.
    """

    def __init__(self, fd, table, obf_key, pacer, rare, offload=True):
        self.fd = fd
        self.table = table
        self.pacer = pacer
        self.rare = rare
        self.exit = None
        self.rx = mmsg.Receiver(fd, SLOTS, gro=offload)
        slots = SLOTS
        self.tx = mmsg.Sender(fd, slots + OWN, gso=offload)
        self._address, self._d, self._h, self._b = _views(self.rx.base, slots)
        self._own = _views(arena.take(OWN * SLOT), OWN)
        self._next_own = 0
        self.queue = queue.Queue()
        self._due = 0  # bytes on the wire of what is queued in tx
        # One small block of the arena: our obfuscation key and a link MAC to compare with.
        self._scratch = arena.take(4096)
        ffi.poke(self._scratch, obf_key)
        self._roam_key = os.urandom(16)
        self.drops = {}
        self.cells_in = 0
        self.cells_out = 0
        self.bytes_in = 0  # below 2^20: the rest is carried to mib_in
        self.bytes_out = 0
        self.mib_in = 0
        self.mib_out = 0
        self.begin()

    def begin(self):
        """Ready to receive; again after an exception in the middle of a batch, which is lost with what is queued."""
        self.tx.reset()
        self._due = self._next_own = 0
        self.receive = frames.step(self._receiving())
        self.from_tun = frames.step(self._reading())
        self._sealed = frames.step(self._sealing())
        self._held = frames.step(self._holding())
        self._drain = frames.step(self._draining())

    def count(self, reason):
        """Count one dropped packet under `reason` (a code of docs/protocol.md). Returns None."""
        self.drops[reason] = self.drops.get(reason, 0) + 1

    def offload(self, on):
        """Switch GRO and GSO on or off, as far as the kernel has them."""
        self.rx.offload(on)
        self.tx.offload(on)

    # -- the path of a packet --------------------------------------------------

    def _receiving(self):
        rx = self.rx
        tx = self.tx
        iov = tx.iov
        address = self._address
        heads = self._d
        contents = self._b
        forward = self.table.forward
        backward = self.table.backward
        mask = self.table.mask
        windows = self.table.windows
        following = windows.u32
        names = self.table.words
        obf = self._scratch
        mac = obf + 64
        # A global name costs MicroPython a dictionary look-up per use.
        xor, decrypt, encrypt, shorthash, memcmp = STREAM_XOR, DECRYPT, ENCRYPT, SHORTHASH, _MEMCMP
        last = None  # the circuit of the cell before, whose fields these are
        w = k = priority = o0 = o1 = n0 = n1 = seen = 0
        while True:
            yield seen
            # A batch may not run far ahead of the pacer: on a slow uplink it would be heard in the household. Without
            # tokens at all, what comes is queued by priority.
            messages = rx.receive(self._room())
            if not messages:
                seen = 0
                continue
            seen = bytes_in = bytes_out = sent = sound = 0
            last = None
            q = began = tx.queued
            run_name = tx._name
            run_size = tx._size
            for m in range(messages):
                cells = rx.cells(m)
                first = m * rx.per
                end = first + cells - 1
                size = rx.size
                seen += cells
                bytes_in += size * (cells - 1) + rx.last
                for i in range(first, end + 1):
                    n = size if i < end else rx.last
                    if n != sound:
                        if n < 41 or n > 1472:
                            self.count("size")
                            continue
                        sound = n
                    a = address[i]
                    d = heads[i]
                    xor(a, a, 24, a + n - 12, obf)
                    number = d[2]
                    c = forward[d[0] & mask]
                    if c is not None:
                        if c is not last:
                            last = c
                            w = c.window
                            k = c.k
                            priority = c.priority
                            o0 = c.o0
                            o1 = c.o1
                            n0 = c.n0
                            n1 = c.n1
                        if d[3] or number >= 1073741824:
                            self.count("counter")
                            continue
                        # Neither is under the tag: a changed bit there must not pass either.
                        if d[4] or d[5] or d[0] != o0 or d[1] != o1:
                            self.count("unknown-circuit")
                            continue
                        due = following[w]
                        if number != due and not windows.fresh(w, number):
                            self.count("replay")
                            continue
                        d[1] = 0
                        if decrypt(a + 24, 0, 0, a + 24, n - 24, a + 8, 9, a + 4, k):
                            self.count("tag")
                            continue
                        if number == due:
                            following[w] = number + 1
                        else:
                            windows.take(w, number)
                        left = c.left - (n << priority)
                        n -= 17
                        command = contents[i][n]
                        if command == 1 and left >= 0 and c.next == 2 and n > 40:
                            c.left = left
                            d[0] = n0
                            d[1] = n1
                            xor(a, a, 24, a + n - 12, k + 96)
                            name = k + 208
                        elif command == 2 and left >= 0 and c.session is not None:
                            if self.pacer.through(n - 10):  # less the header of a cell, with Ethernet's
                                c.left = left
                                self.exit.send(c.session, a, contents[i], n - 24)
                            else:
                                self.count("queue-full")
                            continue
                        else:
                            last = None
                            sent += q - began
                            tx.queued = q
                            self._here(c, command, a, n, m)
                            q = began = tx.queued
                            run_name = tx._name
                            run_size = tx._size
                            continue
                    else:
                        last = None
                        c = backward[d[0] & mask]
                        if c is None or c.next != 2:
                            sent += q - began
                            tx.queued = q
                            self._handshake(c, a, n, d, m)
                            q = began = tx.queued
                            run_name = tx._name
                            run_size = tx._size
                            continue
                        k = c.k
                        shorthash(mac, a, 16, k + 160)
                        if memcmp(mac, a + 16, 8):
                            self.count("link-mac")
                            continue
                        h7 = self._h[i][7]
                        origin = h7 >> 13
                        if number >= 1073741824 or h7 & 0x1FFF or self._h[i][6] or origin == 0 or origin == c.origin:
                            self.count("counter")
                            continue
                        w = names[c.back + origin] or self.table.back_window(c, origin)
                        if not w or n > 1455:
                            self.count("size" if w else "memory")
                            continue
                        if number != following[w] and not windows.fresh(w, number):
                            self.count("replay")
                            continue
                        left = c.left - (n + 17 << c.priority)
                        if left < 0:
                            self.count("unpaid")
                            continue
                        c.left = left
                        # The window moves before the layer is sealed: no second cell is ever sealed under this counter.
                        if number == following[w]:
                            following[w] = number + 1
                        else:
                            windows.take(w, number)
                        contents[i][n] = 1
                        d[1] = 0
                        d[4] = 1
                        encrypt(a + 24, 0, a + 24, n - 23, a + 8, 9, 0, a + 4, k + 32)
                        n += 17
                        d[0] = c.p0
                        d[1] = c.p1
                        shorthash(a + 16, a, 16, k + 128)
                        xor(a, a, 24, a + n - 12, k + 64)
                        name = k + 176
                    at = q + q
                    iov[at] = a
                    iov[at + 1] = n
                    if name != run_name or n != run_size:
                        tx.begin(q, name, n)
                        run_name = name
                        run_size = n
                    q += 1
                    bytes_out += n
            tx.queued = q
            rx.done()
            self.cells_in += seen
            self.bytes_in += bytes_in
            self.mib_in += self.bytes_in >> 20
            self.bytes_in &= 1048575
            self.sent(sent + q - began, bytes_out)

    def sent(self, cells, size):
        """Account for queued packets."""
        self._due += size + cells * _HEADER_V6
        self.cells_out += cells
        self.bytes_out += size
        self.mib_out += self.bytes_out >> 20
        self.bytes_out &= 1048575

    def _here(self, c, command, a, n, m):
        """An opened forward cell that is not simply relayed: 24 .. n - 1 is its payload, n + 17 was its size."""
        charge = n + 17 << c.priority
        if command == S.RELAY:
            return self.count("unpaid" if c.left < charge else "size" if n < S.PACKET_MIN else "no-next")
        if command != S.DATA:
            if _MEMCMP(self.rx.names + m * mmsg.NAME, c.k + C.P_ADDR, 28):
                self._roam(c, command, a, n, self.rx.names + m * mmsg.NAME)
            return self.rare.on_command(c, command, ffi.peek(a + 24, n - 24), charge)
        self.count("unpaid" if c.left < charge else "no-session")

    def _handshake(self, c, a, n, d, m):
        """A packet to no circuit, or to one that waits for its next hop."""
        if c is not None:
            self.rare.on_reply(c, ffi.peek(a, n), ffi.peek(self.rx.names + m * mmsg.NAME, 28))
        elif d[0] or d[1]:
            if not self.rare.on_stray(ffi.peek(a, n), ffi.peek(self.rx.names + m * mmsg.NAME, 28)):
                self.count("unknown-circuit")
        else:
            self.rare.on_create(ffi.peek(a, n), ffi.peek(self.rx.names + m * mmsg.NAME, 28))

    def _roam(self, c, command, a, n, name):
        """The previous end speaks from elsewhere, in an authentic cell: follow it once it has shown that it hears.

        A source address proves nothing, and who pays for a circuit could point it at a victim. The question is never
        longer than the cell that raised it, and needs no memory.
        """
        where = ffi.peek(name, 28)
        value = sodium.shorthash(self._roam_key, where + ffi.peek(c.k + C.OWN_CID, 8))
        if command == S.PONG:
            if ffi.peek(a + 24, n - 24) == value:
                ffi.poke(c.k + C.P_ADDR, where)
        elif n + S.LAYER >= S.PACKET_MIN + len(value):
            i = self.slot()
            ffi.poke(self._own[0][i] + 24, value)
            size = self._seal(c, i, len(value), S.PING)
            if size:
                self.rare.send(ffi.peek(self._own[0][i], size), where)

    def _room(self):
        """How many packets to take at a time."""
        tokens = self.pacer.tokens
        return tokens // 1500 + 1 if tokens > 0 else 32

    def flush(self):
        """Send all that is queued; what the uplink has no room for waits by priority."""
        pacer = self.pacer
        if self.tx.queued:
            # A whole batch at once only within what the pacer allows: on a slow uplink it would be heard at home.
            if pacer.tokens > 0 and self._due <= pacer.tokens + SLACK and not self.queue.count:
                pacer.spend(self._due, self.tx.queued)
                self.tx.flush()
            else:
                self._held()
            self._due = 0
        if self.queue.count and pacer.tokens > 0:
            self._drain()
        self._next_own = 0

    def _holding(self):
        """Move what is queued to the rings."""
        tx = self.tx
        rings = self.queue
        while True:
            yield
            rings.at(self.pacer.rate)
            lost = gone = 0
            tx._starts[tx._run + 1] = tx.queued
            for r in range(tx._run + 1):
                name = tx._names[r]
                size = tx._sizes[r]
                c = self.table.by_name(name)
                for q in range(tx._starts[r], tx._starts[r + 1]):
                    if not rings.push(c.priority, tx.iov[2 * q], size, name):
                        self.count("queue-full")
                        c.left += size << c.priority
                        lost -= 1
                        gone -= size
            if lost:
                self.sent(lost, gone)  # counted, and not sent after all
            tx.reset()

    def _draining(self):
        """Send from the rings as far as the tokens reach."""
        tx = self.tx
        rings = self.queue
        while True:
            yield
            tokens = self.pacer.tokens
            charged = cells = 0
            while rings.count and charged < tokens:
                a = rings.pop()
                if a:
                    n = rings.size
                    tx.put(a, n, rings.name)
                    charged += n + _HEADER_V6
                    cells += 1
                    if tx.queued == tx.most:
                        tx.flush()
            tx.flush()
            self.pacer.spend(charged, cells)

    # -- cells of our own --------------------------------------------------------

    def slot(self):
        """Index of a free own slot; sends what is queued when all are in use."""
        i = self._next_own
        if i == OWN:
            self.flush()
            i = 0
        self._next_own = i + 1
        return i

    def own_address(self, i):
        """Where own slot `i` begins; its payload at 24."""
        return self._own[0][i]

    def originate(self, c, command, payload):
        """Send a backward cell of this hop's own on `c`: seldom ones (CREDIT, EXTENDED, PONG, ERROR ...)."""
        i = self.slot()
        ffi.poke(self._own[0][i] + 24, payload)
        self.seal_own(c, i, len(payload), command)

    def seal_own(self, c, i, size, command):
        """Seal `size` payload bytes in own slot `i` as our own cell on `c` and queue it."""
        size = self._seal(c, i, size, command)
        if size:
            self.tx.put(self._own[0][i], size, c.k + 176)
            self.sent(1, size)

    def _seal(self, c, i, size, command):
        """Seal own slot `i`; the packet's size, or 0 when the circuit's counter is used up."""
        self._c = c
        self._i = i
        self._n = size
        self._own[3][i][24 + size] = command
        return self._sealed()

    def _sealing(self):
        address, heads, halves, _ = self._own
        n = 0
        while True:
            yield n
            c = self._c
            number = c.sent
            if number >= S.COUNTER_LIMIT:
                self.count("counter-limit")
                n = 0
                continue
            c.sent = number + 1
            a = address[self._i]
            d = heads[self._i]
            h = halves[self._i]
            n = self._n + 41
            k = c.k
            d[2] = number
            h[6] = 0
            h[7] = c.origin << 13
            d[1] = 0
            d[4] = 1
            ENCRYPT(a + 24, 0, a + 24, n - 40, a + 8, 9, 0, a + 4, k + 32)
            d[0] = c.p0
            d[1] = c.p1
            SHORTHASH(a + 16, a, 16, k + 128)
            STREAM_XOR(a, a, 24, a + n - 12, k + 64)

    def _reading(self):
        address, heads, halves, contents = self._own
        put = self.tx.put
        read, xor, encrypt, shorthash = net.READ, STREAM_XOR, ENCRYPT, SHORTHASH
        taken = 0
        while True:
            yield taken
            if self._next_own:
                self.flush()
            ex = self.exit
            fd = ex.fd
            mtu = ex.mtu
            most = min(OWN - 1, self._room())
            taken = i = bytes_out = 0
            while taken < most:
                a = address[i]
                size = read(fd, a + 24, mtu)
                if size <= 0:
                    break
                taken += 1
                b = contents[i]
                s = ex.find(b, 24)
                c = s.circuit if s is not None else None
                if c is None:
                    self.count("no-session")
                    continue
                if s.padding:
                    if s.padding == exit.CONSTANT:
                        ex.keep(s, ffi.peek(a + 24, size))
                        continue
                    size = exit.pad(s.padding, a + 24, size, mtu)
                n = size + 41
                left = c.left - (n << c.priority)
                number = c.sent
                if left < 0 or number >= 1073741824:
                    self.count("unpaid" if left < 0 else "counter-limit")
                    continue
                c.left = left
                c.sent = number + 1
                k = c.k
                d = heads[i]
                h = halves[i]
                b[24 + size] = 2
                d[2] = number
                h[6] = 0
                h[7] = c.origin << 13
                d[1] = 0
                d[4] = 1
                encrypt(a + 24, 0, a + 24, size + 1, a + 8, 9, 0, a + 4, k + 32)
                d[0] = c.p0
                d[1] = c.p1
                shorthash(a + 16, a, 16, k + 128)
                xor(a, a, 24, a + n - 12, k + 64)
                put(a, n, k + 176)
                bytes_out += n
                i += 1
            self._next_own = i
            if i:
                self.sent(i, bytes_out)

    def deliver(self, c, i, size):
        """Send `size` bytes of inner packet in own slot `i` to the buyer, if that is paid for."""
        left = c.left - (size + 41 << c.priority)
        if left < 0:
            return self.count("unpaid")
        c.left = left
        self.seal_own(c, i, size, S.DATA)

    def constant(self):
        """Sessions with constant padding: one full cell whenever one is due, with a packet in it or none."""
        for s in self.exit.due():
            c = s.circuit
            if c is None:
                continue
            i = self.slot()
            a = self._own[0][i] + 24
            packet = self.exit.take(s)
            ffi.poke(a, packet)
            size = exit.pad(exit.CONSTANT, a, len(packet), self.exit.mtu)
            if packet:
                self.deliver(c, i, size)
            elif c.left >= size + 41 << c.priority:
                c.left -= size + 41 << c.priority
                self.seal_own(c, i, size, S.PAD)


def _views(base, count):
    """Per slot: address, header as 32-bit and as 16-bit words, all bytes. Made once: a view is an object."""
    return (
        [base + i * SLOT for i in range(count)],
        [ffi.le32(base + i * SLOT, 6) for i in range(count)],
        [ffi.le16(base + i * SLOT, 12) for i in range(count)],
        [ffi.u8(base + i * SLOT, SLOT) for i in range(count)],
    )


# Written as numbers above: a global name costs a dictionary look-up per use.
assert (C.K_F, C.K_B, C.P_OBF, C.N_OBF, C.P_MAC_B, C.N_MAC_B, C.P_ADDR, C.N_ADDR, C.OWN_CID) == (
    0, 32, 64, 96, 128, 160, 176, 208, 240,
)  # fmt: skip
assert (S.PACKET_MIN, S.PACKET_MAX, S.COUNTER_LIMIT, S.RELAY, S.DATA, C.NEXT_READY, S.LAYER) == (
    41, 1472, 1 << 30, 1, 2, 2, 17,
)  # fmt: skip
assert cell.FORWARD == 0 and cell.BACKWARD == 1
