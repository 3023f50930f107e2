"""What waits when the uplink has no room: one ring a priority, served in the proportion of what they pay.

Only used while the pacer is out of tokens; a relay with room sends every batch at once and nothing is copied. Each ring
holds at most what the rate carries in `HOLD_MS`, so that nobody's packets age here; what comes on top is dropped, and
given back to its circuit's credit. A ring begins small and doubles when a fast line fills it: 100 ms of 300 Mbit/s are
2,600 packets, of 10 Mbit/s 87.
"""

from ..platform import arena, ffi

RING = 128  # packets of one priority, at first
RING_MOST = 2048  # and at most: 3 MB
SLOT = 1536
HOLD_MS = 100
LEAST_BYTES = 16384  # a ring always takes so much, or a slow line would carry nothing
WEIGHTS = (1, 2, 4)  # a circuit that pays k units for each unit sent is served k times as often
QUANTUM = 1500

_MOVE = ffi.func(ffi.LIBC, "P", "memmove", "PPL")


class Ring:
    """First in, first out; arena slots, so that packets outlive the batch that they came with."""

    def __init__(self, base):
        self.base = base
        self.slots = RING
        self.sizes = [0] * RING
        self.names = [0] * RING
        self.head = 0
        self.count = 0
        self.bytes = 0
        self.deficit = 0

    def grow(self):
        """Twice as many slots; False when there are enough, or no memory is left. The former ones are not unmapped:
        they add up to no more than the last."""
        slots = 2 * self.slots
        if slots > RING_MOST:
            return False
        try:
            base = arena.take(slots * SLOT)
            sizes = [0] * slots
            names = [0] * slots
        except MemoryError:
            return False
        for j in range(self.count):
            i = (self.head + j) % self.slots
            _MOVE(base + j * SLOT, self.base + i * SLOT, SLOT)
            sizes[j] = self.sizes[i]
            names[j] = self.names[i]
        self.base = base
        self.slots = slots
        self.sizes = sizes
        self.names = names
        self.head = 0
        return True

    def push(self, address, size, name):
        i = (self.head + self.count) % self.slots
        _MOVE(self.base + i * SLOT, address, size)
        self.sizes[i] = size
        self.names[i] = name
        self.count += 1
        self.bytes += size


class Queue:
    """The rings of a relay."""

    def __init__(self):
        base = arena.take(len(WEIGHTS) * RING * SLOT)
        self.rings = [Ring(base + p * RING * SLOT) for p in range(len(WEIGHTS))]
        self.count = 0
        self.most = LEAST_BYTES  # in each ring
        self.size = self.name = 0  # of the packet that `pop` gave
        self._turn = 0

    def at(self, rate_kbps):
        """Hold no more than what this rate carries."""
        self.most = max(LEAST_BYTES, rate_kbps // 8 * HOLD_MS)

    def push(self, priority, address, size, name):
        """Keep a packet; False when there is no room for it."""
        r = self.rings[priority]
        if r.bytes + size > self.most or (r.count == r.slots and not r.grow()):
            return False
        r.push(address, size, name)
        self.count += 1
        return True

    def pop(self):
        """Address of the packet whose turn it is, its `size` and `name` beside it (deficit round robin, Shreedhar and
        Varghese 1995); 0 when none is left. Nothing is allocated.

        The slot may be written again only after the caller has sent it. Call only while `count` > 0.
        """
        while True:
            r = self.rings[self._turn]
            if r.count:
                i = r.head
                size = r.sizes[i]
                if size == 0:  # forgotten
                    self._drop_head(r, 0)
                    if not self.count:
                        return 0
                    continue
                if r.deficit >= size:
                    r.deficit -= size
                    self._drop_head(r, size)
                    self.size = size
                    self.name = r.names[i]
                    return r.base + i * SLOT
            else:
                r.deficit = 0
            self._turn = (self._turn + 1) % len(WEIGHTS)
            nxt = self.rings[self._turn]
            if nxt.count:
                nxt.deficit += QUANTUM * WEIGHTS[self._turn]

    def _drop_head(self, r, size):
        r.head = (r.head + 1) % r.slots
        r.count -= 1
        r.bytes -= size
        self.count -= 1

    def forget(self, names):
        """Nothing more is sent to these sockaddr addresses: their circuit's memory is about to be used again."""
        for r in self.rings:
            for j in range(r.count):
                i = (r.head + j) % r.slots
                if r.names[i] in names and r.sizes[i]:
                    r.bytes -= r.sizes[i]
                    r.sizes[i] = 0
