"""Garbage is collected while nothing happens, or at a bound."""

import gc

from bwrouter.platform import memory

MICROPYTHON = hasattr(gc, "mem_alloc")


def litter(part):
    """Make garbage: this part of the heap (of the bound on objects, under CPython)."""
    if MICROPYTHON:
        whole = gc.mem_alloc() + gc.mem_free()
        for _ in range(int(whole * part) // 1024):
            bytearray(1024)
    else:
        keep = [[] for _ in range(int(memory._OBJECTS * part))]
        del keep


def kept(part):
    """The same, not to be freed: CPython frees at once what nothing refers to."""
    if MICROPYTHON:
        return litter(part)
    return [[] for _ in range(int(memory._OBJECTS * part))]


def collector():
    was = gc.isenabled()
    c = memory.Collector()
    return c, was


def test_only_when_idle():
    c, was = collector()
    try:
        assert not c.tidy(True)  # nothing to collect
        some = kept(0.15)
        assert not c.tidy(False) and c.tidy(True) and c.runs == 2
        assert not c.tidy(True)
        del some
    finally:
        if MICROPYTHON:
            gc.threshold(-1)
        if was:
            gc.enable()


def test_at_the_bound_whatever_happens():
    c, was = collector()
    try:
        gc.collect()
        if MICROPYTHON:
            whole = gc.mem_alloc() + gc.mem_free()
            before = gc.mem_alloc()
            for _ in range(8):
                litter(0.1)
                assert gc.mem_alloc() - before <= whole // memory.MUCH + 4096, "not collected at the bound"
            gc.threshold(-1)
        some = kept(0.8)
        assert c.tidy(False)
        assert not c.tidy(False)
        del some
    finally:
        if was:
            gc.enable()
