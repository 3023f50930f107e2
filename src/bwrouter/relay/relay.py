"""The relay process: ties socket, circuits, credit, exit and agent together. What is rare happens here."""

import binascii
import gc

from ..platform import clock, ffi, frames, memory, net, process
from ..platform.ffi import RUNTIME
from ..wire import anchor as A
from ..wire import sizes as S
from ..wire import ticket as T
from . import circuit as C
from .anchors import Anchors
from .control import Control
from .credit import Ledger
from .exit import Exit
from .loop import Loop
from .pacing import OUR_HEADERS, Pacer
from .prove import Prover
from .reflex import Reflex
from .rules import Rules
from .setup import Setup

IDLE_SECONDS = 120  # a circuit without a cell for so long is closed
FREE_MOST = 64  # control cells a second that are not charged
TICK_MS = 1000
OPEN_SECONDS = 20  # behind an anchor: a circuit without a cell for so long gets a PAD, or the NAT would close
REST_MS = 2000  # the same without circuits and while nothing comes
LOW_UNITS = 2  # below so many paid units left a CREDIT goes out unasked


class Relay:
    """One relay process: worker `worker` of `workers`, on a port, with circuits and a control socket of its own."""

    def __init__(self, config, version, worker=0, workers=1):
        self.config = config
        self.version = version
        self.worker = worker
        self.workers = workers
        self.fd = net.udp_socket(config["listen_port"] + worker, tos=net.LE if config["mark_le"] else 0)
        net.buffers(self.fd, 425984, 425984)
        self.table = C.Table(config["max_circuits"])
        self.pacer = Pacer(config["floor_kbps"], Reflex(self.fd))
        self.setup = None
        self.loop = None
        self.exit = None
        self.prover = None
        self.anchors = None
        self.anchored = False
        self.stopping = False
        self.created = 0
        self.constant = False  # any session with constant padding
        self.control = Control(
            config["run_dir"],
            {
                "hello": self.on_hello, "rate": self.on_rate, "opened": self.on_opened, "redeemed": self.on_redeemed,
                "shutdown": self.on_shutdown, "wan": self.on_wan, "proved": self.on_proved,
                "introduce": self.on_introduce,
            },
            worker,
        )  # fmt: skip
        self.ledger = Ledger(self.control.tell, 2 * config["max_circuits"] + 64)
        self.poller = net.Poller([self.control.fd, -1, -1, -1])
        self._second = clock.ms()
        self._seconds = 0
        self._cells = 0
        self.resting = False  # nothing came or went for a second: the agent looks rarely, and is told when that ends
        self.collector = memory.Collector()
        self.turn = frames.send(self._turning())  # turn(wait) -> how long the next may wait, ms

    # -- messages of the agent ---------------------------------------------------

    def on_hello(self, message, fd):
        """Keys and rules; the first hello opens for business."""
        if self.loop is None:
            obf = binascii.unhexlify(message["obf"])
            self.loop = Loop(self.fd, self.table, obf, self.pacer, self)
            self.prover = Prover(self.loop, self.control.tell)
            self.setup = Setup(
                self.table, binascii.unhexlify(message["static"]), obf, self.send, self.loop.count, self.displace,
                self.worker, self.workers,
            )  # fmt: skip
            self.anchors = Anchors(self.setup, self.loop.count, self.unpaid)
            self.poller.set(1, self.fd)
        self.setup.gateway_keys = [binascii.unhexlify(k) for k in message["gateway_keys"]]
        own = []
        for prefix in message.get("lan", ()):
            ip, _, bits = prefix.partition("/")
            raw = net.ip_bytes(ip)
            own.append((raw, int(bits) if bits else 8 * len(raw)))
        for ip in (message.get("own_v4"), message.get("own_v6")):
            if ip:
                raw = net.ip_bytes(ip)
                own.append((raw, 8 * len(raw)))
        self.setup.own = own
        self.anchors.most = min(message.get("anchors", 0), self.table.most // 8)
        self.anchored = message.get("anchored", False)
        if message.get("exit") and fd >= 0:
            rules = Rules(own, self.config["exit_allow"], self.config["exit_deny"])
            if self.exit is None:
                numbers = S.inner_range(self.worker, self.workers)
                self.exit = Exit(fd, rules, self.loop.count, 2 * self.config["max_circuits"], numbers)
            else:
                self.exit.use(fd, rules)
            self.loop.exit = self.exit
            self.poller.set(2, fd)
        self.hello()

    def hello(self):
        self.control.tell(
            {"t": "hello", "version": self.version, "runtime": RUNTIME, "ready": self.loop is not None,
             "exit": self.exit is not None}
        )  # fmt: skip

    def on_rate(self, message, fd):
        pacer = self.pacer
        pacer.update(message["kbps"], message.get("reason", ""), message.get("line_kbps", 0), message.get("share", 100))
        if self.loop is not None:
            self.say_sent()

    def say_sent(self):
        """What was sent so far: what the WAN's counter shows beyond it is the household's."""
        pacer = self.pacer
        size, cells = pacer.sent()
        reflex = pacer.reflex
        self.control.tell(
            {"t": "sent", "bytes": size, "packets": cells, "reflex": reflex.fd >= 0, "blind": reflex.blind,
             "queued": self.loop.queue.count, "debt_ms": pacer.debt_ms}
        )  # fmt: skip
        pacer.debt_ms = 0

    def on_wan(self, message, fd):
        """The WAN's byte counter, to see the household by."""
        if fd >= 0:
            self.pacer.headers = 28 + message.get("l2", 14)
            self.pacer.reflex.open(fd)

    def on_opened(self, message, fd):
        c = self.ledger.opened(message)
        if c is not None:
            self.send_credit(c)

    def on_redeemed(self, message, fd):
        self.ledger.redeemed(message)

    def on_proved(self, message, fd):
        if self.prover is not None:
            self.prover.signed(message)

    def on_introduce(self, message, fd):
        """What our anchor says: a CREATE that somebody sent to it for us."""
        if self.setup is None:
            return
        try:
            where, packet = A.parse_introduction(binascii.unhexlify(message["introduction"]))
        except A.Malformed:
            return self.loop.count("introduce-malformed")
        if self.setup.introduced(packet, where) is not None:
            self.created += 1

    def on_shutdown(self, message, fd):
        self.stopping = True

    # -- called by the loop ---------------------------------------------------------

    def send(self, datagram, sockaddr):
        self.pacer.spend(len(datagram) + OUR_HEADERS, 1)
        net.sendto(self.fd, datagram, sockaddr)

    def on_create(self, packet, sockaddr):
        if self.setup.on_create(packet, sockaddr) is not None:
            self.created += 1

    def on_reply(self, c, packet, sockaddr):
        if c.extend is None:
            return self.loop.count("no-next")
        answer = self.setup.on_reply(c, packet, sockaddr)
        if answer is None:
            return None
        if answer[0] == "created":
            self.loop.originate(c, S.EXTENDED, answer[1])
        else:
            self.loop.count("extend-" + str(S.E_TABLE_FULL))
            self.error(c, S.E_TABLE_FULL, S.EXTEND)

    def on_stray(self, packet, sockaddr):
        """Whether a packet to no circuit is a COOKIE that an EXTEND waits for, or for a router whose anchor we are."""
        if self.setup.on_stray(packet, self.setup.obf):
            return True
        found = self.anchors.find(packet, sockaddr)
        if found is None:
            return False
        self.loop.originate(found[0], S.INTRODUCE, found[1])
        return True

    def on_command(self, c, command, payload, size):
        """A cell for this hop, other than RELAY and DATA."""
        if command in _FREE:
            i = self.table.index(c)
            self.table.free[i] = min(255, self.table.free[i] + 1)
            if self.table.free[i] > FREE_MOST and not self.charge(c, size):
                return None
        elif not self.charge(c, size):
            return None
        f = _COMMANDS.get(command)
        if f is None:
            return self.loop.count("command")
        try:
            f(self, c, payload)
        except MemoryError:
            gc.collect()
            self.loop.count("memory")

    def charge(self, c, size):
        if c.left < size:
            self.loop.count("unpaid")
            return False
        c.left -= size
        return True

    def do_extend(self, c, payload):
        code = self.setup.extend(c, payload)
        if code == S.E_EXTENDED and not self.setup.other_next(c, payload):
            self.loop.originate(c, S.EXTENDED, ffi.peek(c.k + C.MESSAGE2, S.NOISE2))
        elif code:
            self.loop.count("extend-" + str(code))
            self.error(c, code, S.EXTEND)

    def do_pay(self, c, payload):
        try:
            if self.ledger.pay(c, payload):
                self.send_credit(c)
        except T.BadPayment as e:
            reason = str(e)
            self.loop.count("pay-" + reason)
            if reason in _CHEATING:
                self.loop.originate(c, S.DESTROY, bytes([S.E_TICKET]))
                self.close(c)
            elif reason not in _LATER:
                self.error(c, S.E_TICKET, S.PAY)

    def do_ping(self, c, payload):
        self.loop.originate(c, S.PONG, payload[:8])

    def do_resume(self, c, payload):
        if self.exit is None:
            self.loop.count("not-exit")
            return self.error(c, S.E_NO_EXIT, S.RESUME)
        answer = self.exit.resume(c, payload)
        if answer is None:
            self.loop.count("resume-malformed")
            return self.error(c, S.E_MALFORMED, S.RESUME)
        self.constant = self.exit.constant()
        self.loop.originate(c, S.RESUME, answer)

    def do_prove(self, c, payload):
        code = self.prover.command(c, payload)
        if code:
            self.loop.count("prove-" + str(code))
            self.error(c, code, S.PROVE)

    def do_anchor(self, c, payload):
        code = self.anchors.ask(c, payload)
        if code:
            self.loop.count("anchor-" + str(code))
            self.error(c, code, S.ANCHOR)
        elif code == 0:
            self.loop.originate(c, S.ANCHOR, A.place(ffi.peek(c.k + C.P_ADDR, 28)))

    def do_destroy(self, c, payload):
        self.close(c)

    def do_nothing(self, c, payload):
        """PAD; and PONG, which the loop has looked at."""

    def error(self, c, code, command):
        self.loop.originate(c, S.ERROR, bytes([code, command]))

    def send_credit(self, c):
        self.loop.originate(c, S.CREDIT, self.ledger.credit(c))

    def displace(self, c):
        """End a circuit that does not pay, in favour of one that may."""
        self.loop.count("unpaid-displaced")
        self.unpaid(c)

    def unpaid(self, c):
        self.loop.originate(c, S.DESTROY, bytes([S.E_UNPAID]))
        self.close(c)

    def close(self, c):
        """End a circuit: settle its tickets, free its memory. A session outlives it for RESUME."""
        self.loop.flush()  # queued packets point into the circuit's block
        self.loop.queue.forget((c.k + C.P_ADDR, c.k + C.N_ADDR))
        self.ledger.close(c)
        self.setup.forget(c)
        self.prover.forget(c)
        self.anchors.forget(c)
        if self.exit is not None:
            self.exit.leave(c)
        self.table.remove(c)

    # -- time ------------------------------------------------------------------------

    def second_ms(self):
        """Between two ticks."""
        return REST_MS if self.resting and not self.table.all else TICK_MS

    def tick(self):
        """At every turn: what is due once a second."""
        now = clock.ms()
        if clock.diff(now, self._second) >= self.second_ms():
            self._second = now
            self._seconds += 1
            self._every_second()

    def _every_second(self):
        if self.loop is None:
            self.hello()
            return
        for c in self.setup.tick():
            self.error(c, S.E_NO_ANSWER, S.EXTEND)
        circuits = self.table.all
        for at in range(len(circuits) - 1, -1, -1):  # backwards, for `close` takes out; a copy might find no memory
            c = circuits[at]
            i = self.table.index(c)
            self.table.free[i] = 0
            idle = 0 if self.table.stirred(c) else self.table.idle[i] + 1
            self.table.idle[i] = idle
            self.table.age[i] = min(255, self.table.age[i] + 1)
            if idle > IDLE_SECONDS:
                self.close(c)
            elif self.anchored and idle % OPEN_SECONDS == OPEN_SECONDS - 1:
                self.loop.originate(c, S.PAD, b"")
                self.table.unheard(c)
            elif idle < 2 and c.tickets and c.left < (LOW_UNITS + S.GRACE_UNITS) * S.UNIT:
                self.send_credit(c)
        if self.exit is not None:
            self.exit.tick()
            self.constant = self.exit.constant()
        self.prover.tick()
        self.anchors.tick()
        if self._seconds % 3 == 0:
            self.ledger.repeat()
        self.loop.flush()
        self.control.tell(self.stats())
        # To look at the heap takes milliseconds on a small CPU: when the last cell has come, and now and then.
        idle = self.moved() == self._cells
        self._cells = self.moved()
        if idle > self.resting or self._seconds % 8 == 0:
            self.collector.tidy(idle)
        self.resting = idle

    def moved(self):
        """Datagrams that came or were sent, so far."""
        return self.loop.cells_in + self.pacer.sent()[1]

    def stats(self):
        loop = self.loop
        return {
            "t": "stats", "runtime": RUNTIME, "version": self.version, "circuits": len(self.table.all),
            "created": self.created, "cells_in": loop.cells_in, "cells_out": loop.cells_out,
            "bytes_in": loop.mib_in * 1048576 + loop.bytes_in, "bytes_out": loop.mib_out * 1048576 + loop.bytes_out,
            "drops": loop.drops, "refused": loop.tx.refused, "rate_kbps": self.pacer.rate, "reason": self.pacer.reason,
            "sessions": len(self.exit.by_index) if self.exit else 0, "cpu_ms": process.cpu_ms(),
            "anchored": len(self.anchors.all), "introduced": self.anchors.told,
        }  # fmt: skip

    def run(self):
        """Until shutdown or SIGTERM."""
        # As the first process of a jail's PID namespace it would not be ended by a signal that it does not read.
        self.signals = process.Signals()
        self.poller.set(3, self.signals.fd)
        self.hello()
        wait = 100
        while not self.stopping:
            wait = self.turn(wait)
        self.stop()

    def _turning(self):
        """Wait at most as many ms as are sent for something to do, do it; yields how long the next turn may wait."""
        poller = self.poller
        wait = 0
        while True:
            wait = yield wait
            n = poller.wait(wait)
            if n and poller.ready(0):
                self.control.read()
            if n and poller.ready(3) and self.signals.take():
                self.stopping = True
            wait = REST_MS if self.resting else 100
            try:
                if self.loop is not None:
                    wait = self._serve(n, wait)
                self.tick()
            except MemoryError:
                gc.collect()
                if self.loop is not None:
                    self.loop.begin()
                    self.prover.begin()
                    if self.exit is not None:
                        self.exit.begin()
                    self.loop.count("memory")

    def _serve(self, n, wait):
        """The data path's part of a turn; `n`: ready descriptors. Returns how long the next may wait, in ms."""
        poller = self.poller
        loop = self.loop
        self.pacer.refill()
        loop.flush()  # what waited goes first
        if n and poller.ready(1):
            loop.receive()
            loop.flush()
        if self.exit is not None:
            if n and poller.ready(2):
                loop.from_tun()
            if self.constant:
                loop.constant()
                wait = 5
            loop.flush()
        if self.prover.now is not None:  # last: what customers leave
            wait = min(wait, self.prover.fill())
            loop.flush()
        if loop.queue.count:
            wait = min(wait, self.pacer.wait_ms())
        if self.resting:
            wait = self._rest(wait)
        return wait

    def _rest(self, wait):
        if self.moved() != self._cells:
            self.resting = False
            self.say_sent()
        # One more, for poll(2) may wake a little before a tick is due.
        left = self.second_ms() + 1 - clock.diff(clock.ms(), self._second)
        return min(wait, max(1, left))

    def stop(self):
        for c in list(self.table.all):
            self.loop.originate(c, S.DESTROY, bytes([S.E_SHUTDOWN]))
            self.close(c)
        if self.loop is not None:
            self.loop.flush()
            self.control.tell(self.stats())
        self.control.close()
        self.signals.close()
        net.close(self.fd)


_COMMANDS = {
    S.EXTEND: Relay.do_extend, S.PAY: Relay.do_pay, S.PING: Relay.do_ping, S.RESUME: Relay.do_resume,
    S.DESTROY: Relay.do_destroy, S.PAD: Relay.do_nothing, S.PONG: Relay.do_nothing,
    S.PROVE: Relay.do_prove, S.ANCHOR: Relay.do_anchor,
}  # fmt: skip
_FREE = (S.PAY, S.PING, S.PONG, S.DESTROY)
# No honest buyer sends these, and to find out costs up to 1024 hashes: there is no second try.
_CHEATING = ("preimage", "index")
# Sent again later, these may do: a PAY before this one got lost, or the gateway is slow.
_LATER = ("serial", "waiting")
