"""Memory outside the garbage-collected heap, at addresses below 2^30.

MicroPython's small ints have 31 bits on a 32-bit CPU; a pointer above 2^30 would become an allocated big int at each
use. An arena mapped low keeps address arithmetic free of allocation, and packet buffers out of the collector's sight.
"""

from . import consts, ffi

try:
    _mmap = ffi.func(ffi.LIBC, "P", "mmap64", "PLiiiq")
except OSError:
    _mmap = ffi.func(ffi.LIBC, "P", "mmap", "PLiiiq")

_LOW = (0x20000000, 0x28000000, 0x30000000, 0x18000000, 0x38000000)
_mapped = [0]


def take(size):
    """Map `size` zeroed bytes (rounded up to whole pages) and return the address. Raises MemoryError."""
    size = (size + 4095) & ~4095
    flags = consts.MAP_PRIVATE | consts.MAP_ANONYMOUS
    for hint in _LOW:
        # Only a hint, not MAP_FIXED: the kernel moves the mapping elsewhere when the place is taken.
        where = _mmap(hint + _mapped[0], size, 3, flags, -1, 0)
        if where is None or where in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            continue
        if where + size <= 1 << 30:
            _mapped[0] += size
            return where
    if where is None or where in (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
        raise MemoryError("mmap of " + str(size) + " bytes failed, errno " + str(ffi.errno()))
    return where  # high, but valid: slower on 32 bit, never wrong


class Pool:
    """Fixed-size blocks from one mapping. `take()` gives an address or 0 when none is left; `give()` returns and
    wipes it."""

    def __init__(self, block, count):
        self.block = block
        self.base = take(block * count)
        self._free = [self.base + block * i for i in range(count - 1, -1, -1)]
        self._zero = bytes(block)

    def take(self):
        return self._free.pop() if self._free else 0

    def give(self, address):
        ffi.poke(address, self._zero)
        self._free.append(address)
