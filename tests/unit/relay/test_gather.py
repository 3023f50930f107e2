"""When a relay waits for more datagrams before it takes those that have come."""

import gc

from bwrouter.platform import clock
from bwrouter.relay import gather

MICROPYTHON = hasattr(gc, "mem_alloc")


class Scene:
    """A Gather whose time the test moves and whose waits it counts."""

    def __init__(self):
        self.now = clock.us()
        self.waits = 0
        self._us, self._sleep = clock.us, gather.USLEEP
        gather.clock.us = lambda: self.now
        gather.USLEEP = self.slept
        self.gather = gather.Gather()

    def slept(self, us):
        self.waits += 1
        self.now = clock.add(self.now, us)

    def turns(self, count, cells, every_us):
        """So many turns with `cells` datagrams each; how often it waited."""
        before = self.waits
        for _ in range(count):
            self.now = clock.add(self.now, every_us)
            self.gather.wait()
            self.gather.took(cells)
        return self.waits - before

    def close(self):
        gather.clock.us, gather.USLEEP = self._us, self._sleep


def with_scene(test):
    s = Scene()
    try:
        test(s)
    finally:
        s.close()


def test_a_slow_line_waits_for_nothing():
    # 40 Mbit/s of full cells, one by one; and a batch now and then after a rest.
    with_scene(lambda s: check(s.turns(2000, 1, 290) == 0 and s.turns(20, 30, 1000000) == 0))


def test_many_single_datagrams_are_waited_for():
    def test(s):
        for _ in range(300):
            if not s.gather.busy:
                s.turns(1, 1, 36)
        check(s.gather.busy and s.turns(100, 6, 20) == 100)  # what comes at that rate during a wait
        check(s.turns(100, 1, 2000) <= 2 and not s.gather.busy)

    with_scene(test)


def test_full_batches_need_no_wait():
    with_scene(lambda s: check(s.turns(200, 64, 1000) == 0 and s.gather.busy))


def test_neither_call_allocates():
    if not MICROPYTHON:
        return
    g = gather.Gather()
    g.busy = True
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(50):
        g.wait()
        g.took(6)
    check(gc.mem_alloc() - before < 64)


def check(held):
    assert held
