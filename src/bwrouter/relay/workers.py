"""Several relay processes, one a core: each has its own port, circuits, keys in memory and control socket.

They share nothing, so the kernel sorts packets by port, a process that dies takes only its own circuits along, and the
data path is the same as that of one. Which of them a circuit belongs to is told by its Noise message (wire/descriptor).
"""

import sys

from ..platform import clock, net, process

AGAIN_MS = 1000  # a process that died is started anew after so long
LEAVE_MS = 2000  # what the processes have to end in order


class Workers:
    """Starts `work(settings, worker, workers)` in `count` child processes and keeps them running until SIGTERM, or
    until one has ended in order: the agent said shutdown."""

    def __init__(self, settings, count, work):
        self.settings = settings
        self.count = count
        self.work = work
        self.children = [None] * count
        self._ended = [0] * count

    def run(self):
        signals = process.Signals()
        poller = net.Poller([signals.fd] + [-1] * self.count)
        for worker in range(self.count):
            self._start(worker, signals, poller)
        while not signals.take() and not self._look(signals, poller):
            poller.wait(AGAIN_MS)
        self._end(poller)
        for child in self.children:
            if child is not None:
                child.stop()
        signals.close()

    def _end(self, poller):
        """Have all of them take leave of their circuits."""
        for child in self.children:
            if child is not None:
                child.terminate()
        start = clock.ms()
        while clock.diff(clock.ms(), start) < LEAVE_MS:
            if not any([c is not None and c.channel.open for c in self.children]):
                break
            poller.wait(100)
            for worker in range(self.count):
                child = self.children[worker]
                if child is not None and child.channel.recv() is None and not child.channel.open:
                    poller.set(1 + worker, -1)

    def _start(self, worker, signals, poller):
        def work(channel):
            self.work(self.settings, worker, self.count)
            channel.send(b"done")

        shut = [c.channel.fd for c in self.children if c is not None]
        self.children[worker] = child = process.Child(work, signals, shut)
        poller.set(1 + worker, child.channel.fd)

    def _look(self, signals, poller):
        """Start anew what died. True when a worker has ended in order."""
        for worker in range(self.count):
            child = self.children[worker]
            if child is not None:
                if child.channel.recv() is not None:
                    return True
                if child.channel.open:
                    continue
                sys.stderr.write("bwrouter relay: worker %d ended; starting it again\n" % worker)
                poller.set(1 + worker, -1)
                child.stop()
                self.children[worker] = None
                self._ended[worker] = clock.ms()
            elif clock.diff(clock.ms(), self._ended[worker]) >= AGAIN_MS:
                self._start(worker, signals, poller)
        return False
