"""When garbage is collected: while nothing happens, or at a bound, and not in the middle of a burst.

MicroPython collects by itself when its heap is full, which stops everything for as long as a look at the whole heap
takes: some 30 ms on a small router. It does so all the same when none of this was soon enough.
"""

import gc

GROWN = 16  # an idle process collects when the heap in use grew by this part of it
FULL = 4  # and a busy one when less than this part of it is free,
MUCH = 4  # or after it has taken this part of it: what has been touched once stays in the process's memory
IMPORTS = 65536  # bytes: while modules are loaded, garbage is collected after so many


def frugal():
    """Before a process loads its modules: what compiling and loading leave behind is not spread over the whole heap.
    `bounded` ends that."""
    if hasattr(gc, "threshold"):
        gc.threshold(IMPORTS)


def bounded():
    """From now on, garbage is collected at the latest after MUCH of the heap has been taken."""
    if hasattr(gc, "threshold"):
        gc.threshold((_used() + _free()) // MUCH)


class Collector:
    """`tidy` is to be called every second or so."""

    def __init__(self):
        if not hasattr(gc, "mem_alloc"):  # CPython: by number of objects, and then only by `tidy`
            gc.disable()
        bounded()
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
        whole = used + free
        grown = used - self._base
        if grown * GROWN <= whole or not (idle or free * FULL < whole):
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
