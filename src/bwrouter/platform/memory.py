"""When garbage is collected: while nothing happens, or at a bound, and not in the middle of a burst.

MicroPython collects by itself when its heap is full, which stops everything for as long as a look at the whole heap
takes: some 30 ms on a small router. It does so all the same when none of this was soon enough.
"""

import gc

GROWN = 16  # an idle process collects when the heap in use grew by this part of it
FULL = 2  # and a busy one when less than this part of it is free: what has been touched once stays in memory


class Collector:
    """`tidy` is to be called every second or so."""

    def __init__(self):
        if not hasattr(gc, "mem_alloc"):  # CPython: by number of objects, and then only by `tidy`
            gc.disable()
        self.runs = 0
        self._base = 0
        self._collect()

    def _collect(self):
        gc.collect()
        self.runs += 1
        self._base = _used()

    def tidy(self, idle):
        """Collect if it is worth it; `idle`: nothing waits for this process now. Returns whether it did."""
        used, free = _used(), _free()
        grown = used - self._base
        if grown * GROWN <= used + free or not (idle or free * FULL < used + free):
            return False
        self._collect()
        return True


_OBJECTS = 200_000  # CPython: container objects until a collection is due

if hasattr(gc, "mem_alloc"):
    _used, _free = gc.mem_alloc, gc.mem_free
else:

    def _used():
        return gc.get_count()[0]

    def _free():
        return max(0, _OBJECTS - gc.get_count()[0])
