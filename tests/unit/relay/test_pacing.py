"""The pacer's two buckets, and the reflex on a counter: a file stands for /sys/class/net/WAN/statistics/tx_bytes."""

import gc
import os

from bwrouter.platform import clock, files, net
from bwrouter.relay import pacing, reflex

MICROPYTHON = hasattr(gc, "mem_alloc")
FOLDER = "build/tmp"


class Scene:
    """A line of 10 Mbit/s, a counter that the test moves, and time that the test moves."""

    def __init__(self, line=10000, rate=100000, share=100):
        files.make_dirs(FOLDER)
        self.path = FOLDER + "/counter-%d" % clock.us()
        self.count = 999999000  # nine digits overflow soon
        self.show()
        self.socket = net.udp_socket(0, "::1")
        self.reflex = reflex.Reflex(self.socket)
        self.reflex.open(net.open_file(self.path))
        self.pacer = pacing.Pacer(64, self.reflex)
        self.pacer.update(rate, "test", line, share)
        self.now = clock.us()
        self.sent = 0
        self._us, self._ms = clock.us, clock.ms
        pacing.clock.us = lambda: self.now
        pacing.clock.ms = lambda: self.now // 1000
        self.pacer._at = self.pacer._looked = self.pacer._free = self.now
        self.pacer._heard = self.now // 1000
        self.reflex._moved = self.now

    def show(self):
        with open(self.path, "w") as f:
            f.write("%d\n" % self.count)

    def run(self, ms, household_kbps=0, counted=True, packet=1252):
        """So many ms of a saturating relay; bytes that it sent."""
        before, left = self.sent, 0
        for ms in range(ms, 0, -1):
            self.now += 1000
            self.pacer._heard = self.now // 1000
            left += household_kbps // 8
            self.pacer.refill()
            while self.pacer.tokens > 0:
                self.pacer.spend(packet + 48, 1)
                self.sent += packet + 42
                if counted:
                    self.count += packet + 42
            self.count += left
            left = 0
            if ms % 2 == 0:
                self.show()
        return self.sent - before

    def close(self):
        pacing.clock.us, pacing.clock.ms = self._us, self._ms
        self.reflex.close("")
        net.close(self.socket)
        os.remove(self.path)


def test_what_is_idle_is_used_and_no_more():
    s = Scene()
    s.run(100)
    alone = s.run(1000)
    beside = s.run(1000, 6000)
    s.close()
    print(alone, beside)
    assert 1250000 * 97 // 100 <= alone <= 1256000
    assert 500000 * 94 // 100 <= beside <= 506000


def test_it_stops_at_once_and_goes_on_when_the_burst_has_left_the_modem():
    s = Scene()
    s.run(500)
    s.count += 62500  # 50 ms of the line, at once
    s.show()
    s.run(reflex.LOOK_US // 1000 + 1)
    during = s.run(30)
    assert 40 <= s.pacer.debt_ms <= 60
    after = s.run(100)
    s.close()
    assert during == 0
    assert after >= 1250 * 75


def test_it_stops_at_once_where_the_modem_is_built_in():
    """The queue is this machine's own: the counter shows what leaves it, and ours stand behind the household's."""
    s = Scene(rate=9500)
    queue = []  # [bytes, ours] in order
    s.reflex.pending = lambda: sum(size for size, ours in queue if ours) * 8 // 5

    def run(ms):
        """So many ms; bytes of ours that entered the queue."""
        before = s.sent
        for _ in range(ms):
            s.now += 1000
            s.pacer._heard = s.now // 1000
            left = 1250
            while queue and left:
                gone = min(left, queue[0][0])
                left -= gone
                s.count += gone
                queue[0][0] -= gone
                if not queue[0][0]:
                    queue.pop(0)
            s.show()
            s.pacer.refill()
            while s.pacer.tokens > 0:
                s.pacer.spend(1300, 1)
                s.sent += 1294
                queue.append([1294, True])
        return s.sent - before

    run(200)
    alone = run(400)
    queue.append([62500, False])  # 50 ms of the line
    during = run(45)
    run(200)
    after = run(400)
    s.close()
    print(alone, during, after)
    assert during <= 6250  # 5 ms of the line; it was all of its rate, for as long as the burst lasted
    assert alone >= 1187 * 400 * 97 // 100 and after >= 1187 * 400 * 97 // 100


def test_a_household_beside_a_resting_relay_owes_nothing():
    s = Scene()
    s.run(100)
    for household, free in ((750000, True), (1250000, True), (2500000, False)):
        s.now += 1000000  # nothing came for a second: the counter was not looked at
        s.count += household
        s.show()
        s.pacer._heard = s.now // 1000
        assert (s.pacer.refill() > 0) == free, household
    s.close()


def test_a_household_that_takes_all_leaves_a_trickle():
    s = Scene()
    s.run(500)
    s.run(1000, 10000)
    taken = s.run(5000, 10000)
    back = s.run(1000)
    s.close()
    print(taken, back)
    assert 2 * 1294 <= taken <= 5 * 1294
    assert back >= 1250000 * 60 // 100


def test_an_exits_packets_are_paced_and_are_no_households():
    s = Scene()
    s.run(100)
    s.now += 5000
    s.pacer.refill()
    taken = 0
    while s.pacer.through(1400):
        taken += 1400
        s.count += 1400
    s.show()
    assert 0 < taken < 300000
    s.run(1000)
    beside = s.run(1000)
    s.close()
    assert beside >= 1250000 * 95 // 100


def test_asking_what_was_sent_changes_nothing():
    s = Scene()
    s.run(100)
    before, own = s.pacer.sent()[0], 0
    for _ in range(250):
        own += s.run(2)
        s.pacer.sent()  # between two looks
    size, cells = s.pacer.sent()
    asked = own
    own = 0
    for _ in range(250):
        own += s.run(2)
    s.close()
    assert cells > 0 and size - before == asked // 1294 * 1252
    assert asked >= own * 995 // 1000


def test_share_and_cap():
    s = Scene(share=50)
    s.run(100)
    half = s.run(1000, 4000)
    s.close()
    assert 375000 * 94 // 100 <= half <= 381000
    s = Scene(rate=2000)
    s.run(100)
    capped = s.run(1000, 1000)
    s.close()
    assert capped <= 256000
    s = Scene(rate=200)
    s.run(100)
    s.run(300, 20000)  # a burst is not the cap's debt
    s.run(400)
    capped = s.run(1000)
    s.close()
    assert capped >= 23000


def test_a_rate_of_nothing_sends_nothing():
    s = Scene(rate=0)
    s.run(10)
    sent = s.run(3000)
    s.close()
    assert sent == 0


def test_a_counter_that_stands_still_or_goes_is_believed_no_more():
    s = Scene()
    s.run(200)
    s.run(2500, 0, counted=False)
    assert s.reflex.fd < 0 and s.reflex.blind == "still" and not s.pacer.sees()
    s.reflex.open(net.open_file(s.path))
    assert s.reflex.blind == "" and s.pacer.sees()
    net.close(s.reflex.fd)  # as after the interface has gone: reads fail
    assert s.reflex.look(s.now, 0) == -1
    assert s.reflex.blind == "gone" and s.reflex.fd < 0
    s.close()


def test_bytes_that_come_late_in_the_counter_are_still_our_own():
    s = Scene()
    s.reflex.look(s.now, 0)
    assert s.reflex.look(s.now, 2500) == 0  # sent, not shown yet
    s.count += 2500
    s.show()
    assert s.reflex.look(s.now, 0) == 0
    s.count += 700
    s.show()
    assert s.reflex.look(s.now, 0) == 700
    # What was dropped in a queue of this machine never shows, and hides only so much of the household.
    assert s.reflex.look(s.now, 10**6) == 0
    s.count += 10**6
    s.show()
    assert s.reflex.look(s.now, 0) >= 10**6 - 8000
    s.close()


def test_looking_allocates_nothing():
    if not MICROPYTHON:
        return
    s = Scene()
    r, now = s.reflex, s.now
    r.look(now, 0)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(100):
        r.look(now, 0)
        s.now += 1000
        s.pacer.refill()
        s.pacer.spend(1300, 1)
    used = gc.mem_alloc() - before
    s.close()
    assert used < 64, used
