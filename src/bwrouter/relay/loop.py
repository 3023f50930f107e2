"""The relay's data path: one socket, batches in and out, nothing allocated per cell in the steady state."""

from ..platform import ffi, mmsg, net
from ..platform.sodium import DECRYPT, ENCRYPT, SHORTHASH, STREAM_XOR
from ..wire import cell
from ..wire import sizes as S
from . import circuit as C

BATCH = 32
SPARE = 16  # slots for cells that this hop originates
SLOT = 2048
_RELAY = S.RELAY
_DATA = S.DATA
_READY = C.NEXT_READY
_MAX = S.PACKET_MAX
_MIN = S.PACKET_MIN
_HEADER_V6 = 48  # IPv6 and UDP headers: what a datagram costs on the wire beside itself, at most
_LEN = mmsg.LEN
_U32 = mmsg.U32


class Loop:
    """Moves cells. What is rare goes to `rare` (relay.Relay): on_create, on_reply, on_command."""

    def __init__(self, fd, table, obf_key, pacer, rare):
        self.fd = fd
        self.table = table
        self.pacer = pacer
        self.rare = rare
        self.exit = None
        self.rx = mmsg.Batch(BATCH, SLOT, sends=2 * BATCH + SPARE)
        # Own cells and packets from the TUN are built in slots of their own; they are sent by the same queue.
        self.own = mmsg.Batch(BATCH + SPARE, SLOT, sends=1)
        self._heads = [ffi.le16(self.rx.base + i * SLOT, 12) for i in range(BATCH)]
        self._bytes = [ffi.u8(self.rx.base + i * SLOT, SLOT) for i in range(BATCH)]
        self._own_heads = [ffi.le16(self.own.base + i * SLOT, 12) for i in range(BATCH + SPARE)]
        self._own_bytes = [ffi.u8(self.own.base + i * SLOT, SLOT) for i in range(BATCH + SPARE)]
        self._next_own = 0
        # One small block of the arena: our obfuscation key and a link MAC to compare with.
        self._scratch = mmsg.arena.take(4096)
        ffi.poke(self._scratch, obf_key)
        self._mac = ffi.le16(self._scratch + 64, 4)
        self.drops = {}
        self.cells_in = 0
        self.cells_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.units = 0  # carry of the byte counters: 2^20 bytes each
        self.mib_in = 0
        self.mib_out = 0

    def count(self, reason):
        """Count one dropped packet under `reason` (a code of docs/protocol.md). Returns None."""
        self.drops[reason] = self.drops.get(reason, 0) + 1

    # -- the path of a packet --------------------------------------------------

    def receive(self):
        """Take one batch from the socket and forward it. Returns the number of packets."""
        rx = self.rx
        count = rx.receive(self.fd, BATCH)
        if not count:
            return 0
        length = rx.length
        base = rx.base
        heads = self._heads
        mask = self.table.mask
        forward = self.table.forward
        backward = self.table.backward
        obf = self._scratch
        at = _LEN
        total = 0
        for i in range(count):
            n = length[at]
            at += _U32
            total += n
            if n < _MIN or n > _MAX:
                self.count("size")
                continue
            a = base + i * SLOT
            h = heads[i]
            STREAM_XOR(a, a, 24, a + n - 12, obf)
            id0 = h[0] & mask
            c = forward[id0]
            if c is not None:
                self._forward(c, a, n, h, i)
                continue
            c = backward[id0]
            if c is not None:
                self._backward(c, a, n, h, i)
            elif not (h[0] or h[1] or h[2] or h[3]):
                self.rare.on_create(ffi.peek(a, n), ffi.peek(rx.names + i * 32, 28))
            else:
                self.count("unknown-circuit")
        self.cells_in += count
        self.bytes_in += total
        if self.bytes_in >= 1 << 20:
            self.mib_in += self.bytes_in >> 20
            self.bytes_in &= (1 << 20) - 1
        return count

    def _forward(self, c, a, n, h, i):
        if h[5] >= 0x4000 or h[6] or h[7]:
            return self.count("counter")
        number = h[4] | h[5] << 16
        window = c.window
        if not window.fresh(number):
            return self.count("replay")
        k = c.k
        h[2] = 0
        h[3] = 0
        h[8] = 0
        if DECRYPT(a + 24, 0, 0, a + 24, n - 24, a + 8, 9, a + 4, k):
            return self.count("tag")
        window.take(number)
        c.idle = 0
        command = self._bytes[i][n - 17]
        if command == _RELAY:
            left = c.left - n
            if left < 0:
                return self.count("unpaid")
            if c.next != _READY:
                return self.count("no-next")
            c.left = left
            c.free = 0
            h[0] = c.n0
            h[1] = c.n1
            h[2] = c.n2
            h[3] = c.n3
            n -= 17
            SHORTHASH(a + 16, a, 16, k + 144)
            STREAM_XOR(a, a, 24, a + n - 12, k + 96)
            self.put(a, n, k + 208)
        elif command == _DATA:
            left = c.left - n
            if left < 0:
                return self.count("unpaid")
            if c.session is None:
                return self.count("no-session")
            c.left = left
            c.free = 0
            self.exit.send(c.session, a, self._bytes[i], 24, n - 41)
        else:
            self.roam(c, i)
            self.rare.on_command(c, command, ffi.peek(a + 24, n - 41), n)

    def _backward(self, c, a, n, h, i):
        if c.next != _READY:
            return self.rare.on_reply(c, ffi.peek(a, n))
        if n + 17 > _MAX:
            return self.count("size")
        k = c.k
        mac = self._mac
        SHORTHASH(self._scratch + 64, a, 16, k + 160)
        if mac[0] != h[8] or mac[1] != h[9] or mac[2] != h[10] or mac[3] != h[11]:
            return self.count("link-mac")
        origin = h[7] >> 13
        if h[5] >= 0x4000 or h[6] or h[7] & 0x1FFF or origin == 0 or origin == c.origin:
            return self.count("counter")
        window = c.back[origin] or self.table.back_window(c, origin)
        if window is None:
            return self.count("memory")
        number = h[4] | h[5] << 16
        if not window.fresh(number):
            return self.count("replay")
        n += 17
        left = c.left - n
        if left < 0:
            return self.count("unpaid")
        # The window moves before the layer is sealed: no second cell can ever be sealed under this counter.
        window.take(number)
        c.idle = 0
        c.left = left
        self._bytes[i][n - 17] = _RELAY
        h[2] = 0
        h[3] = 0
        h[8] = 1
        ENCRYPT(a + 24, 0, a + 24, n - 40, a + 8, 9, 0, a + 4, k + 32)
        h[0] = c.p0
        h[1] = c.p1
        h[2] = c.p2
        h[3] = c.p3
        SHORTHASH(a + 16, a, 16, k + 128)
        STREAM_XOR(a, a, 24, a + n - 12, k + 64)
        self.put(a, n, k + 176)

    def put(self, a, n, name):
        """Queue a finished packet and charge it to the pacer."""
        tx = self.rx
        tx.put(a, n, name)
        self.pacer.tokens -= n + _HEADER_V6
        self.cells_out += 1
        self.bytes_out += n
        if self.bytes_out >= 1 << 20:
            self.mib_out += 1
            self.bytes_out -= 1 << 20
        if tx.queued == tx.sends:
            self.flush()

    def flush(self):
        if self.rx.queued:
            self.rx.flush(self.fd)
        self._next_own = 0

    # -- cells of our own --------------------------------------------------------

    def slot(self):
        """Index of a free own slot; sends what is queued when all are in use."""
        i = self._next_own
        if i == BATCH + SPARE:
            self.flush()
            i = 0
        self._next_own = i + 1
        return i

    def originate(self, c, command, payload):
        """Send a backward cell of this hop's own on `c`: seldom ones (CREDIT, EXTENDED, PONG, ERROR ...)."""
        i = self.slot()
        a = self.own.base + i * SLOT
        ffi.poke(a + 24, payload)
        self.seal_own(c, a, self._own_heads[i], self._own_bytes[i], len(payload), command)

    def seal_own(self, c, a, h, b, size, command):
        """Seal `size` payload bytes at `a` + 24 as our own cell on `c` and queue it."""
        number = c.sent
        if number >= S.COUNTER_LIMIT:
            return self.count("counter-limit")
        c.sent = number + 1
        b[24 + size] = command
        n = size + 41
        k = c.k
        cell.set_counter(h, number, c.origin)
        h[2] = 0
        h[3] = 0
        h[8] = 1
        ENCRYPT(a + 24, 0, a + 24, size + 1, a + 8, 9, 0, a + 4, k + 32)
        h[0] = c.p0
        h[1] = c.p1
        h[2] = c.p2
        h[3] = c.p3
        SHORTHASH(a + 16, a, 16, k + 128)
        STREAM_XOR(a, a, 24, a + n - 12, k + 64)
        self.put(a, n, k + 176)

    def from_tun(self):
        """Take packets from the exit's TUN towards their buyers. Returns how many."""
        ex = self.exit
        taken = 0
        while taken < BATCH:
            i = self.slot()
            a = self.own.base + i * SLOT
            size = net.READ(ex.fd, a + 24, ex.mtu)
            if size <= 0:
                self._next_own = i
                break
            taken += 1
            b = self._own_bytes[i]
            s = ex.find(b, 24)
            c = s.circuit if s is not None else None
            if c is None:
                self._next_own = i
                self.count("no-session")
                continue
            left = c.left - size - 41
            if left < 0:
                self._next_own = i
                self.count("unpaid")
                continue
            c.left = left
            c.free = 0
            c.idle = 0
            self.seal_own(c, a, self._own_heads[i], b, size, _DATA)
        return taken

    def roam(self, c, i):
        """The previous end speaks from elsewhere now: follow it (only after its cell proved authentic)."""
        name = self.rx.names + i * 32
        here = ffi.peek(name, 28)
        if here != ffi.peek(c.k + C.P_ADDR, 28):
            ffi.poke(c.k + C.P_ADDR, here)


assert (C.K_B, C.P_OBF, C.N_OBF, C.P_MAC_B, C.N_MAC_F, C.N_MAC_B, C.P_ADDR, C.N_ADDR) == (
    32, 64, 96, 128, 144, 160, 176, 208,
)  # fmt: skip  # the loop writes them as numbers
