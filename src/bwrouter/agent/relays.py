"""The relay's processes as the agent sees them: what each has sent, wants and says, and its part of the rate."""

from ..platform import clock, config

ALIVE_MS = 3000  # a worker that said nothing for so long is not there
LEAST_KBPS = 8
# Of a worker that uses little the rest is lent to others, less this part of all / workers: room to begin with.
START = 4


def split(kbps, wants):
    """Parts of `kbps` for workers that want `wants` kbit/s each (None: all they can get; 0: it is not there). Max-min
    fair; what nobody wants is spread evenly. The sum is at most `kbps`, but LEAST_KBPS for each."""
    count = len(wants)
    parts = [0] * count
    left = kbps
    order = sorted(range(count), key=lambda i: kbps if wants[i] is None else wants[i])
    for at in range(count):
        i = order[at]
        even = left // (count - at)
        parts[i] = even if wants[i] is None else min(even, wants[i])
        left -= parts[i]
    using = [i for i in range(count) if wants[i] != 0] or list(range(count))
    for i in using:
        parts[i] += left // len(using)
    return [max(LEAST_KBPS, part) for part in parts]


class Relays:
    """The relay's `count` processes, by number from 0."""

    def __init__(self, run_dir, count):
        self.count = count
        self.paths = [config.relay_socket(run_dir, i) for i in range(count)]
        self._heard = [None] * count  # when (ms)
        self._stats = [None] * count
        self._sent = [(0, 0)] * count  # bytes, packets
        self._at = [0] * count  # when it said so (ms)
        self._used = [0] * count  # kbit/s
        self._waiting = [False] * count
        self._parts = [0] * count  # kbit/s
        self._asked = set()  # who has not answered the last rate

    def number(self, message):
        """Which process sent a message. Raises ValueError."""
        worker = message.get("worker", 0)
        if not isinstance(worker, int) or not 0 <= worker < self.count:
            raise ValueError("from relay process %r of %d" % (worker, self.count))
        return worker

    def heard(self, worker):
        self._heard[worker] = clock.ms()

    def alive(self, worker):
        heard = self._heard[worker]
        return heard is not None and clock.diff(clock.ms(), heard) < ALIVE_MS

    def split(self, kbps):
        """Each process's part of `kbps`, of which they will report what they sent."""
        if self.count == 1:
            return [kbps]
        wants = []
        for i in range(self.count):
            used = self._used[i]
            if not self.alive(i):
                wants.append(0)
            elif self._waiting[i] or used * 4 >= self._parts[i] * 3:
                wants.append(None)
            else:
                wants.append(used * 3 // 2 + kbps // (START * self.count))
        self._parts = split(kbps, wants)
        self._asked = set([i for i in range(self.count) if self.alive(i)])
        return self._parts

    def on_sent(self, worker, message):
        """What a process has sent so far. The same of all together once every living one has said it, else None."""
        now = clock.ms()
        sent = message["bytes"], message["packets"]
        passed = clock.diff(now, self._at[worker])
        if sent[0] >= self._sent[worker][0] and 0 < passed < ALIVE_MS:
            self._used[worker] = (sent[0] - self._sent[worker][0]) * 8 // passed
        self._sent[worker], self._at[worker] = sent, now
        self._waiting[worker] = bool(message.get("queued"))
        self._asked.discard(worker)
        if self._asked:
            return None
        if self.count == 1:
            return message
        size, packets = sum([s[0] for s in self._sent]), sum([s[1] for s in self._sent])
        return {"bytes": size, "packets": packets, "queued": sum(self._waiting)}

    def cpu_ms(self):
        """CPU time of a process, the mean of all; None before any has said it."""
        known = [s["cpu_ms"] for s in self._stats if s is not None and "cpu_ms" in s]
        return sum(known) // len(known) if known else None

    def on_stats(self, worker, message):
        self._stats[worker] = message

    def status(self):
        """The counters of all together, None before any has spoken; with several, `workers` has each process's."""
        known = [i for i in range(self.count) if self._stats[i] is not None]
        if not known:
            return None
        ages = [clock.diff(clock.ms(), self._heard[i]) for i in known]
        if self.count == 1:
            whole = dict(self._stats[0])
        else:
            whole = {"drops": {}}
            for i in known:
                _add(whole, self._stats[i])
            whole["workers"] = [self._one(i) for i in range(self.count)]
        whole["age_ms"] = max(ages)
        return whole

    def _one(self, i):
        stats = self._stats[i] or {}
        out = {name: stats.get(name, 0) for name in ("circuits", "sessions", "cells_in", "cells_out", "rate_kbps")}
        out["alive"] = self.alive(i)
        return out


def _add(whole, stats):
    """Add one process's counters: numbers add up, words are the last one's."""
    for name in stats:
        value = stats[name]
        if name == "drops":
            for reason in value:
                whole["drops"][reason] = whole["drops"].get(reason, 0) + value[reason]
        elif name == "worker":
            continue
        elif isinstance(value, int) and not isinstance(value, bool):
            whole[name] = whole.get(name, 0) + value
        else:
            whole[name] = value
