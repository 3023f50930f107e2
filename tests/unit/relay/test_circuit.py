"""The table of circuits: its memory, its ids, its end."""

import gc

from bwrouter.platform import ffi
from bwrouter.relay import circuit as C
from bwrouter.wire import cell


def test_place_zero_is_never_given_out():
    """A circuit there would take every CREATE for its own cells."""
    t = C.Table(16)
    for _ in range(300):
        c = t.add(1)
        t.new_cid(t.backward, c, C.NEXT_CID)
        assert t.forward[0] is None and t.backward[0] is None
        t.remove(c)


def test_full_table_and_removal():
    t = C.Table(8)
    made = [t.add(i % 7 + 1) for i in range(8)]
    assert t.full() and t.add(1) is None
    assert len([x for x in t.forward if x is not None]) == 8
    for c in made:
        w = cell.cid_words(ffi.peek(c.k + C.OWN_CID, 8))
        assert t.forward[w[0] & t.mask] is c and w[0] < 1 << 30 and w[1] < 1 << 30
        t.new_cid(t.backward, c, C.NEXT_CID)
        assert t.by_name(c.k + C.P_ADDR) is c and t.by_name(c.k + C.N_ADDR) is c
        for origin in range(1, 5):
            t.back_window(c, origin)
    for c in made:
        k = c.k
        ffi.poke(k, b"key")
        t.remove(c)
        assert ffi.peek(k, 3) == bytes(3)
    assert t.all == [] and [x for x in t.forward + t.backward if x is not None] == []
    for _ in range(8):
        assert t.add(1) is not None


def test_heap_of_a_circuit():
    """At most 512 bytes each (DESIGN section 5), where the runtime can tell."""
    if not hasattr(gc, "mem_alloc"):
        return
    t = C.Table(64)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(64):
        c = t.add(1)
        t.new_cid(t.backward, c, C.NEXT_CID)
        t.back_window(c, 3)
    gc.collect()
    assert (gc.mem_alloc() - before) / 64 <= 512


def test_stirred():
    t = C.Table(8)
    c = t.add(1)
    assert not t.stirred(c)
    t.windows.take(c.window, 0)
    assert t.stirred(c) and not t.stirred(c)
    c.sent += 1
    assert t.stirred(c)
    t.windows.take(t.back_window(c, 5), 3)
    assert t.stirred(c) and not t.stirred(c)
