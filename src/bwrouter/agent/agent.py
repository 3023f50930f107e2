"""The agent's first process: never blocks. It steers the relay's rate, keeps the tickets, and writes status.json."""

import gc
import json

from .. import __version__
from ..platform import clock, config, files, net, process
from ..platform.ffi import RUNTIME
from ..wire import proof
from ..wire import sizes as S
from . import faults, gateways, keys, publish, rate, status
from .anchor import Anchor
from .earned import Earned
from .exit import Exit
from .idle import Idle
from .idle import check_settings as check_idle
from .log import Log
from .reach import MAPPED, PUBLIC4
from .relays import Relays
from .tickets import Book
from .worker import Worker

STATUS_MS = 1000
STATUS_REST_MS = 3000  # while nothing is relayed
REDEEM_MS = 2000
OPEN_RETRY_MS = 3000  # after a gateway failed
RESPAWN_MS = 2000
READ_MOST = 64  # messages of the relay in a turn: a flood must not hold up the rate
SHORT_MOST = 20  # turns in a row without enough memory before the agent gives up and is started anew


class Agent:
    def __init__(self, settings):
        self.settings = settings
        check_settings(settings)
        self.log = Log("bwrouter agent", settings["log_level"])
        files.make_dirs(settings["run_dir"], 0o770)
        made = keys.make(settings["state_dir"])
        if made:
            self.log.info("new keys in " + settings["state_dir"] + ": " + ", ".join(made))
        self.keys = keys.load(settings["state_dir"])
        self.signals = process.Signals()
        self.socket = net.UnixDatagram(settings["run_dir"] + "/agent.sock")
        self.relays = Relays(settings["run_dir"], config.workers(settings))
        self.book = Book(settings["run_dir"], settings["state_dir"])
        self.idle = Idle(settings, self.tell_line, self.log)
        places = [settings[name] + "/earned.json" for name in ("run_dir", "state_dir")]
        self.earned = Earned(settings["billing_day"], *places)
        self.gateway_state = {}
        self.exit = Exit(settings, self.log) if settings["exit"] else None
        self.child = None
        echo = self.idle.echo
        self.poller = net.Poller([self.socket.fd, self.signals.fd, -1, echo.fd if echo is not None else -1, -1])
        self.anchor = Anchor(self.keys, self.introduce, self.on_anchor, self.log)
        self.reach = ""
        self.mapped_v4 = ""
        self._busy = {}  # job: since when (ms)
        self._wait = {}  # job: not before (ms)
        self._spawn_at = clock.ms()
        self._started = clock.unix()

    # -- the loop ------------------------------------------------------------------

    def run(self):
        """Until SIGTERM or SIGINT; undoes what it did."""
        self.log.info("relay %s, wallet 0x%s" % (self.keys.relay.hex(), self.keys.address.hex()))
        self._spawn()
        if self.exit is not None:
            self.exit.open()
        for worker in range(self.relays.count):
            self.hello(worker)
        self._tick = self._second = clock.ms()
        short = 0
        try:
            while not self.signals.take():
                try:
                    self.turn()
                    short = 0
                except MemoryError:
                    # A burst of messages on a small heap: everything that matters is said again.
                    gc.collect()
                    short += 1
                    self.log.change("memory", "short of memory")
                    if short > SHORT_MOST:
                        raise
        except Exception as error:
            self.log.error("ends by " + repr(error))
            raise
        finally:
            self.stop()

    def turn(self):
        """Wait for the next tick or message, and do what is due."""
        left = self.idle.period - clock.diff(clock.ms(), self._tick)
        if left > 0:
            self.poller.wait(left)
            self.idle.echoes()
            self.read_relay()
            self.read_child()
            if self.poller.ready(4):
                self.anchor.read()
        self.anchor.tick()
        self.poller.set(4, self.anchor.fd)
        now = clock.ms()
        self.jobs(now)
        late = clock.diff(now, self._tick)
        period = self.idle.period
        if late >= period:
            # A late tick does not make the following ones early.
            self._tick = clock.add(self._tick, period) if late < 2 * period else now
            self.idle.tick()
        if clock.diff(now, self._second) >= (STATUS_MS if period < rate.REST_MS else STATUS_REST_MS):
            self._second = now
            self.every_second()

    def stop(self):
        """Leave nothing behind but keys and unredeemed tickets; the relay falls to its floor by itself."""
        self.log.info("stopping")
        self._save(True)
        if self.child is not None:
            self.child.stop()
        if self.exit is not None:
            self.exit.close()
        self.idle.close()
        self.anchor.close()
        self.socket.close()
        self.signals.close()
        status.remove(self.settings["run_dir"])

    def every_second(self):
        if self.child is None or not self.child.channel.open:
            self._respawn()
        self._save(False)
        try:
            self.idle.second(self.relays.cpu_ms())
            status.write(self.settings["run_dir"], self.status())
        except OSError as error:
            self.log.change("status", str(error))

    # -- the relay -------------------------------------------------------------------

    def tell(self, message, worker=0, fd=-1):
        return self.socket.send(self.relays.paths[worker], json.dumps(message).encode(), fd)

    def tell_line(self, message, fd=-1):
        """A rate, of which each relay process gets its part; or the WAN's counter, for a relay that is alone: several
        would take each other's bytes for the household's."""
        if message["t"] == "rate":
            parts = self.relays.split(message["kbps"])
            for worker in range(self.relays.count):
                message["kbps"] = parts[worker]
                self.tell(message, worker)
        else:
            self.tell(message, 0, fd)

    def tell_all(self, message):
        """For whichever relay process it concerns; the others know nothing of it and let it pass."""
        for worker in range(self.relays.count):
            self.tell(message, worker)

    def hello(self, worker):
        """Keys and rules for a relay process, with its TUN of the exit."""
        s = self.settings
        message = {
            "t": "hello",
            "static": self.keys.static.hex(),
            "obf": self.keys.obf.hex(),
            "gateway_keys": [entry["key"] for entry in s["gateways"]],
            "own_v4": self.mapped_v4 or s["public_v4"],
            "own_v6": s["public_v6"],
            "lan": s["lan_prefixes"],
            "exit": self.exit is not None,
            "anchors": self.anchors(),
            "anchored": self.anchor.place is not None,
        }
        fd = self.exit.fds[worker] if self.exit is not None else -1
        return self.tell(message, worker, fd)

    def read_relay(self):
        for _ in range(READ_MOST):
            text, fd = self.socket.recv()
            if text is None:
                return
            if fd >= 0:
                net.close(fd)
            try:
                message = json.loads(text)
                handler = _FROM_RELAY.get(message["t"])
                if handler is not None:
                    handler(self, message, self.relays.number(message))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.log.change("relay message", str(error))

    def on_hello(self, message, worker):
        self.relays.heard(worker)
        if not message["ready"]:
            self.book.relay_restarted(worker if self.relays.count > 1 else None)
        if self.exit is not None and not message["exit"]:
            self.exit.open()
        if not message["ready"] or (self.exit is not None and self.exit.fds[worker] >= 0 and not message["exit"]):
            self.hello(worker)

    def on_sent(self, message, worker):
        sent = self.relays.on_sent(worker, message)
        if sent is not None:
            self.idle.heard(sent)

    def on_open(self, message, worker):
        answer = self.book.open(message)
        if answer is not None:
            self.tell(answer, worker)

    def on_meter(self, message, worker):
        if self.book.meter(message):
            self._wait["redeem"] = clock.ms()

    def on_prove(self, message, worker):
        """A bandwidth proof's closing statement: the identity signs it, for the relay has no such key."""
        statement = bytes.fromhex(message["statement"])
        signature = proof.sign(self.keys.identity, statement)
        self.tell({"t": "proved", "statement": message["statement"], "signature": signature.hex()}, worker)

    def on_stats(self, message, worker):
        self.relays.heard(worker)
        self.relays.on_stats(worker, message)

    # -- the anchor ----------------------------------------------------------------------

    def anchors(self):
        """Of how many routers each relay process may be the anchor: that takes a public IPv4 address."""
        public = self.reach in (PUBLIC4, MAPPED)
        return S.ANCHORS_MOST // self.relays.count if public and self.settings["anchor"] else 0

    def introduce(self, introduction):
        """Our anchor's word on somebody who wants a circuit. The first process is the one that our descriptor names."""
        self.tell({"t": "introduce", "introduction": introduction.hex()})

    def on_anchor(self):
        """Another anchor, or none: the relay keeps its NAT open by that, and the descriptor names it."""
        for worker in range(self.relays.count):
            self.hello(worker)
        self.tell_anchor()

    def tell_anchor(self):
        place = self.anchor.place
        message = {"t": "anchored", "v4": place[0].hex() if place else "", "port": place[1] if place else 0}
        message["relay"], message["error"] = self.anchor.name, self.anchor.error
        if self.child is not None and self.child.channel.open:
            self.child.channel.send(json.dumps(message).encode())

    # -- the worker --------------------------------------------------------------------

    def _spawn(self):
        shut = [self.socket.fd] + (self.exit.fds if self.exit is not None else [])
        if self.anchor.fd >= 0:
            shut.append(self.anchor.fd)
        self.child = process.Child(lambda channel: Worker(self.settings, self.keys, channel).run(), self.signals, shut)
        self.poller.set(2, self.child.channel.fd)
        self._busy = {}

    def _respawn(self):
        if clock.diff(clock.ms(), self._spawn_at) < RESPAWN_MS:
            return
        self._spawn_at = clock.ms()
        self.log.warning("the gateway process ended; starting it again")
        if self.child is not None:
            self.poller.set(2, -1)
            self.child.stop()
            self.child = None
        try:
            self._spawn()
        except net.NetError as error:
            self.log.error(str(error))

    def read_child(self):
        while self.child is not None and self.child.channel.open:
            text = self.child.channel.recv()
            if text is None:
                break
            message = json.loads(text)
            if message["t"] == "state":
                self.gateway_state = message
                if message.get("earnings"):
                    self.on_earnings(message["earnings"])
                self.on_reach(message["reach"])
            elif message["t"] == "idle":
                self._busy.pop(message["job"], None)
            elif message["t"] == "anchors":
                self.anchor.offer([bytes.fromhex(raw) for raw in message["offers"]])
                self.tell_anchor()
            elif message["t"] == "published":
                self.anchor.prove(bytes.fromhex(message["descriptor"]))
            elif message["t"] == "promised":
                self.book.promised(message["gateway"], message["receipts"])
            else:
                self.on_results(message)
        if self.child is not None and not self.child.channel.open:
            self.poller.set(2, -1)

    def on_earnings(self, earnings):
        """The gateway's sums."""
        self.idle.redeemed(earnings.get("units", 0) + self.book.unredeemed())
        try:
            self.earned.note(int(earnings.get("cumulative_wei", 0)), clock.local())
            self.log.change("earned", "")
        except (OSError, ValueError) as error:
            self.log.change("earned", "not kept: " + str(error))

    def on_reach(self, reach):
        """The worker has, or has lost, a public address by the modem: the relay must know it for its own."""
        v4 = reach["address"] if reach["by"] else ""
        if v4 != self.mapped_v4 or reach["state"] != self.reach:
            self.mapped_v4, self.reach = v4, reach["state"]
            for worker in range(self.relays.count):
                self.hello(worker)

    def on_results(self, message):
        if message.get("error"):
            job = "open" if message["t"] == "opened" else "redeem"
            self._wait[job] = clock.add(clock.ms(), OPEN_RETRY_MS)
            return
        if message["t"] == "opened":
            answers = self.book.opened(message["results"], message["gateway"])
        else:
            answers = self.book.redeemed(message["results"], message["gateway"])
        for answer in answers:
            self.tell_all(answer)

    def jobs(self, now):
        """Give the worker what waits: opens at once, redeems every REDEEM_MS or when a ticket ends."""
        if self.child is None or not self.child.channel.open:
            return
        if self._due("open", now):
            _, tickets = self.book.to_open()
            if tickets:
                self._order("open", {"t": "open", "tickets": tickets}, now, 0)
        if self._due("redeem", now):
            for answer in self.book.finish():
                self.tell_all(answer)
            gateway, items = self.book.to_redeem()
            if items:
                self._order("redeem", {"t": "redeem", "gateway": gateway, "items": items}, now, REDEEM_MS)
            else:
                self._wait["redeem"] = clock.add(now, REDEEM_MS)

    def _due(self, job, now):
        return job not in self._busy and (job not in self._wait or clock.diff(now, self._wait[job]) >= 0)

    def _order(self, job, message, now, pause):
        if self.child.channel.send(json.dumps(message).encode()):
            self._busy[job] = now
            self._wait[job] = clock.add(now, pause)

    # -- what is shown and kept ----------------------------------------------------------

    def _save(self, ending):
        try:
            self.book.save(ending)
            self.log.change("tickets", "")
        except (OSError, MemoryError) as error:
            self.log.change("tickets", "not saved: " + str(error))

    def status(self):
        """Raw numbers and reason codes for status.json."""
        state = self.gateway_state
        return {
            "time": clock.unix(),
            "started": self._started,
            "pid": process.pid(),
            "version": __version__,
            "runtime": RUNTIME,
            "faults": faults.read(self.settings["run_dir"]),
            "relay_id": self.keys.relay.hex(),
            "wallet": "0x" + self.keys.address.hex(),
            "payout": self.settings["payout"] or "0x" + self.keys.address.hex(),
            "region": self.settings["region"],
            "rate": self.idle.status(),
            "relay": self.relays.status(),
            "reach": state.get("reach"),
            "gateways": state.get("gateways", []),
            "stake": {
                "chain": state.get("stake"),
                "error": state.get("stake_error", ""),
                "tx": state.get("tx", ""),
                "wanted_wei": self.settings["stake_wei"],
            },
            "tickets": {
                "asked": len(self.book.asked),
                "held": len(self.book.held),
                "unredeemed_units": self.book.unredeemed(),
                "redeemed_units": self.book.redeemed_units,
                "refused": self.book.refused,
            },
            "earnings": state.get("earnings"),
            "earned": self.earned.status(),
            "proved": state.get("proved"),
            "proof_error": state.get("proof_error", ""),
            "free": state.get("free"),
            "shortfall": state.get("shortfall"),
            "receipt_errors": state.get("receipt_errors", []),
            "verdicts": state.get("verdicts", []),
            "exit": {
                "enabled": self.exit is not None,
                "error": self.exit.error if self.exit is not None else "",
                "tun": self.settings["exit_tun"] if self.exit is not None else "",
            },
        }


_FROM_RELAY = {
    "hello": Agent.on_hello,
    "open": Agent.on_open,
    "meter": Agent.on_meter,
    "sent": Agent.on_sent,
    "prove": Agent.on_prove,
    "stats": Agent.on_stats,
}


def check_settings(settings):
    """What the table of settings cannot say, and the addresses that they leave open. Raises ConfigError."""
    from . import policy, registration

    try:
        check_idle(settings)
        gateways.check(settings)
        if not settings["stake_wei"].isdigit():
            raise ValueError("setting stake_wei: %r is not allowed; it wants decimal digits" % settings["stake_wei"])
        if settings["payout"]:
            registration.address_bytes(settings["payout"], "setting payout")
        publish.fill(settings)
        policy.ruleset(settings)
        if settings["public_v4"] or settings["public_v6"]:
            publish.addresses(settings)
    except ValueError as error:
        raise config.ConfigError(str(error))
