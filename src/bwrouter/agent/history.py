"""A day of the line, in RAM: what the household sent, what the relay sent, and how long the line's queue was.

From it comes what the owner wants to know: what the household lost. Lost is what the relay sent while the line was full
(the household could have had it); added delay is the mean queue while relaying less the mean queue while not.
"""

import json

from ..platform import files

SLOT_S = 300
SLOTS = 288  # a day
FIELDS = ("time", "household", "relay", "taken", "queue_relaying_us", "relaying", "queue_alone_us", "alone")
# Per slot: unix seconds of its begin; bytes; bytes; bytes sent while the line was full; sum of queue delays and number
# of samples while the relay sent, and while it did not.


class History:
    def __init__(self):
        self.slots = []

    def add(self, now, household, relay, full, queue_us):
        """A tick: bytes sent by either, whether the line was full, the queue's delay (-1: not known)."""
        begin = now - now % SLOT_S
        if not self.slots or self.slots[-1][0] != begin:
            self.slots.append([begin] + [0] * (len(FIELDS) - 1))
            if len(self.slots) > SLOTS:
                self.slots.pop(0)
        slot = self.slots[-1]
        slot[1] += household
        slot[2] += relay
        if full:
            slot[3] += relay
        if queue_us >= 0:
            at = 4 if relay else 6
            slot[at] += queue_us
            slot[at + 1] += 1

    def verdict(self):
        """{household_bytes, relay_bytes, lost_pct, added_ms}: the last two are None where nothing can be said."""
        sums = [sum([slot[i] for slot in self.slots]) for i in range(1, len(FIELDS))]
        household, relay, taken, relaying, n, alone, m = sums if self.slots else [0] * 7
        return {
            "household_bytes": household,
            "relay_bytes": relay,
            "lost_pct": round(100 * taken / (household + taken), 2) if household else None,
            "added_ms": round(max(0, relaying / n - alone / m) / 1000, 2) if n and m else None,
        }

    def write(self, path):
        """Replace the file in RAM. Raises OSError."""
        text = {"slot_s": SLOT_S, "fields": FIELDS, "slots": self.slots, "verdict": self.verdict()}
        files.write_atomic(path, json.dumps(text).encode(), 0o644, False)
