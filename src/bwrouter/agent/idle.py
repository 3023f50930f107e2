"""Idle only: reads the line, asks the controller, tells the relay; keeps caps, quota, schedule and history."""

from ..platform import clock, config, ffi, files, icmp, net
from . import offload, policy, rate, schedule
from .control import Controller, Sample
from .history import History
from .quota import Quota
from .shaping import Shaping

WAN_RETRY_MS = 1000  # between two offers of the counter to a relay that does not read it
PROBE_IDLE = 5  # ticks between two echoes while nothing is relayed
REST_AFTER_MS = 3000  # without a byte relayed
DEBT_TICKS = 5  # a round trip shows a queue late, and the least of three later still
HISTORY_S = 60
OFFLOAD_S = 600
ETHERNET = 14
IP_UDP = 28


class Idle:
    """`tell(message, fd=-1)` sends to the relay."""

    def __init__(self, settings, tell, log):
        clock.zone()
        self.settings = settings
        self.tell = tell
        self.log = log
        self.control = Controller(settings)
        self.household = rate.Household(settings)
        self.hours = schedule.spans(settings["hours"])
        self.quota = Quota(settings, settings["run_dir"] + "/quota.json", settings["state_dir"] + "/quota.json")
        self.history = History()
        self.shaping = Shaping(settings, log)
        self.counter = Counter(settings["wan"])
        self.sent = None  # the relay's last answer
        self.paused = 0
        self.stopped = ""
        self.hidden = ""
        self.busy_pct = 0
        self.echo = None
        self._cpu = None
        self._own = None  # (ms, bytes) of the last pair that own_kbps is from
        self._own_kbps = 0
        self._seen = None  # (WAN, own) bytes that the history has seen
        self._debts = []
        self._offered = None
        self._ticks = 0
        self.period = rate.TICK_MS  # until the next tick
        self._quiet = 0  # ms without a byte relayed, as far as it matters
        self._offload_at = self._history_at = None
        self._found = offload.NONE
        self._open_echo()
        self._stop_and_go()

    # -- ticks ---------------------------------------------------------------------

    def tick(self):
        """Every `period` ms: decide, and tell the relay."""
        now = clock.ms()
        self._ticks += 1
        wan = self.counter.read()
        household = self.household.tick(now, wan)
        if self.echo is not None and (self._own_kbps or self.period > rate.TICK_MS or self._ticks % PROBE_IDLE == 0):
            self.echo.send()
        self.control.step(self._sample(now, wan, household))
        self.household.reckon(self.control.uplink.kbps)
        self._say()
        self._offer(now)
        self._quiet = min(self._quiet + self.period, REST_AFTER_MS)
        self.period = rate.REST_MS if self._quiet == REST_AFTER_MS and self.control.settled() else rate.TICK_MS

    def heard(self, message):
        """The relay's answer to a rate: what it has sent so far."""
        now = clock.ms()
        wan = self.counter.read()
        own = self._own_bytes(message["bytes"], message["packets"])
        self.sent = message
        self._debts = self._debts[-DEBT_TICKS + 1 :] + [message.get("debt_ms", 0)]
        self._hide()
        if self._own is None or own != self._own[1] or message.get("queued"):
            self._quiet = 0
            self.period = rate.TICK_MS
        if self._own is not None and own >= self._own[1] and clock.diff(now, self._own[0]) > 0:
            self._own_kbps = (own - self._own[1]) * 8 // clock.diff(now, self._own[0])
        self._own = (now, own)
        self.quota.count(own, clock.local())
        household = self.household.own(now, wan, own)
        if household is not None:
            self._remember(wan, own)
            if self.control.fall(self._sample(now, wan, household)):
                self._say()

    def echoes(self):
        """Round trips that came."""
        while self.echo is not None:
            rtt = self.echo.read()
            if rtt is None:
                return
            self.control.delay.heard(clock.ms(), rtt)

    def second(self, cpu_ms):
        """Once a second: what changes slowly. `cpu_ms`: CPU time of a relay process so far, None: not known."""
        self._stop_and_go()
        self._asked()
        if cpu_ms is not None:
            if self._cpu is not None:
                self.busy_pct = max(0, cpu_ms - self._cpu) // 10
            self._cpu = cpu_ms
        now = clock.ms()
        if self._offload_at is None or clock.diff(now, self._offload_at) >= OFFLOAD_S * 1000:
            self._offload_at = now
            self._found = offload.detect()
            self.log.change("offload", offload.WORDS[self._found])
            self._offered = None  # a counter that stood still gets another try
            self._hide()
        if self._history_at is None or clock.diff(now, self._history_at) >= HISTORY_S * 1000:
            self._history_at = now
            self.history.write(self.settings["run_dir"] + "/history.json")
        self.quota.save(clock.uptime())
        uplink = self.control.uplink
        self.shaping.keep(uplink.kbps, self.control.limit_kbps(), uplink.sure in ("owner", "measured"))

    def close(self):
        """Undo the shaping and keep the quota."""
        try:
            self.quota.save(clock.uptime())
        except OSError as error:
            self.log.change("quota", str(error))
        self.shaping.undo()
        if self.echo is not None:
            self.echo.close()
        self.counter.close()
        files.remove(self.settings["run_dir"] + "/history.json")

    def redeemed(self, units):
        """The gateways' sum of units redeemed in all, with those about to be."""
        self.quota.redeemed(units, clock.local())

    # -- parts ---------------------------------------------------------------------

    def _say(self):
        c = self.control
        message = {"t": "rate", "kbps": c.kbps, "reason": c.reason, "line_kbps": c.line}
        message["share"] = self.settings["share_pct"]
        self.tell(message)

    def _sample(self, now, wan, household):
        s = Sample(now, wan, household, self._own_kbps, self.household.full)
        sent = self.sent
        s.reflex = sent is not None and sent.get("reflex", False)
        s.queued = sent is not None and sent.get("queued", 0) > 0
        s.stopped, s.hidden, s.busy_pct = self.stopped, self.hidden, self.busy_pct
        s.debt_ms = max(self._debts) if self._debts else 0
        s.left = self.quota.left()
        return s

    def _hide(self):
        """Whether the household is out of sight: forwarded by hardware, or a counter that stands still."""
        still = self.sent is not None and self.sent.get("blind") == "still"
        self.hidden = "offload" if self._found == offload.HARDWARE or still else ""

    def _asked(self):
        """The owner asks for a probing phase by a file."""
        path = self.settings["run_dir"] + "/probe.json"
        if files.read(path) is not None:
            files.remove(path)
            self.control.uplink.probe(clock.ms())

    def _stop_and_go(self):
        local, now = clock.local(), clock.unix()
        self.paused = schedule.paused_until(files.read(self.settings["run_dir"] + "/pause.json"), now)
        if self.paused:
            self.stopped = "pause"
        elif self.hours and local is None:
            self.stopped = "schedule"  # nobody knows what time it is: not now
        elif self.hours and not schedule.open_at(self.hours, local[6], local[3] * 60 + local[4]):
            self.stopped = "schedule"
        elif self.quota.left() == 0:
            self.stopped = "quota"
        else:
            self.stopped = ""
        self.quota.add(0, local)  # a new day begins without traffic, too

    def _remember(self, wan, own):
        before, self._seen = self._seen, (wan, own)
        if before is not None and wan >= before[0] and own >= before[1]:
            relay = own - before[1]
            household = max(0, wan - before[0] - relay)
            self.history.add(clock.unix(), household, relay, self.household.full, self.control.delay.queue_us)

    def _own_bytes(self, sent, packets):
        """Bytes on the WAN's wire of `packets` datagrams with `sent` bytes in all, and of what the exit's TUN took."""
        own = sent + (IP_UDP + self.counter.l2) * packets
        if self.settings["exit"]:
            # What leaves through the exit's TUN goes out of the WAN too, with a link header of its own.
            for worker in range(config.workers(self.settings)):
                base = "/sys/class/net/" + policy.tun(self.settings, worker) + "/statistics/rx_"
                own += (_number(base + "bytes") or 0) + self.counter.l2 * (_number(base + "packets") or 0)
        return own

    def _offer(self, now):
        """Give the relay the counter's file when it has none that works."""
        sent = self.sent
        if sent is None or sent.get("reflex", True) or self._found == offload.HARDWARE:
            return
        if self._offered is not None:
            if sent["blind"] == "still" or clock.diff(now, self._offered) < WAN_RETRY_MS:
                return
        self._offered = now
        try:
            fd = net.open_file(self.counter.path)
        except net.NetError:
            return  # the interface is away: reason `counters` says so
        self.tell({"t": "wan", "l2": self.counter.l2}, fd)
        net.close(fd)

    def _open_echo(self):
        target = echo_target(self.settings, files.read("/proc/net/route"))
        if target is None:
            return
        echo = icmp.Echo(target)
        if echo.fd < 0:
            self.log.change("delay", "the delay brake is off: " + echo.error + " (net.ipv4.ping_group_range)")
        else:
            self.echo = echo

    def status(self):
        """Raw numbers for status.json."""
        c = self.control
        q = self.quota
        return {
            "allowed_kbps": c.allowed,
            "household_kbps": self.household.kbps,
            "own_kbps": self._own_kbps,
            "reason": c.reason,
            "uplink_kbps": c.uplink.kbps,
            "uplink_sure": c.uplink.sure,
            "uplink_measured_kbps": c.uplink.measured,
            "uplink_probing": c.uplink.probing,
            "limit_kbps": c.limit_kbps(),
            "wan_tx_bytes": self.counter.read(),
            "reflex": self.sent is not None and self.sent.get("reflex", False),
            "delay_base_us": c.delay.base_us,
            "delay_queue_us": c.delay.queue_us,
            "paused_until": self.paused,
            "offload": self.hidden,
            "quota": {
                "day_bytes": q.used_day(),
                "month_bytes": q.used_month(),
                "left_bytes": q.left(),
                "day": q.day,
                "month": q.month,
            },
            "shaping": self.shaping.status(),
            "verdict": self.history.verdict(),
        }


class Counter:
    """The WAN's tx_bytes. The file stays open; an interface made anew is opened anew."""

    def __init__(self, wan):
        base = "/sys/class/net/" + wan
        self.path = base + "/statistics/tx_bytes"
        self._base = base
        self._fd = -1
        self._text = bytearray(32)
        self.l2 = ETHERNET

    def read(self):
        """The counter, None when it cannot be read."""
        for _ in range(2):
            if self._fd < 0:
                try:
                    self._fd = net.open_file(self.path)
                except net.NetError:
                    return None
                # ARPHRD_ETHER 1; others (PPP, raw IP) count without a link header.
                self.l2 = ETHERNET if _number(self._base + "/type") in (1, None) else 0
            n = net.PREAD(self._fd, ffi.addr(self._text), 32, 0)
            if n > 0:
                return int(bytes(self._text[:n]))
            self.close()
        return None

    def close(self):
        if self._fd >= 0:
            net.close(self._fd)
            self._fd = -1


def echo_target(settings, routes):
    """4 bytes of an address behind the modem: the provider's router, or a gateway where a router at home is first."""
    first = icmp.default_gateway(routes.decode(), settings["wan"]) if routes else None
    if first is not None and not _private(first):
        return first
    for entry in settings["gateways"]:
        host = entry["url"].split("//")[-1].split("/")[0].split(":")[0] if isinstance(entry, dict) else ""
        try:
            raw = net.ip_bytes(host)
        except ValueError:
            continue
        if len(raw) == 4 and raw[0] != 127:
            return raw
    return first


def check_settings(settings):
    """What the table of settings cannot say of caps and hours. Raises ConfigError that names the setting."""
    uplink, cap, day = settings["uplink_kbps"], settings["cap_kbps"], settings["quota_day_mb"]
    wrong = ""
    if 0 < uplink < 64:
        wrong = "setting uplink_kbps: %d is not allowed; it wants 0 (learn it) or at least 64" % uplink
    elif 0 < uplink < cap:
        wrong = "setting cap_kbps: %d is above uplink_kbps, %d; lower it, or 0 for no cap" % (cap, uplink)
    elif 0 < cap < rate.LEAST_KBPS:
        wrong = "setting cap_kbps: %d is not allowed; it wants 0 (no cap) or at least %d" % (cap, rate.LEAST_KBPS)
    elif 0 < settings["quota_month_mb"] < day:
        wrong = "setting quota_day_mb: %d is above quota_month_mb, %d" % (day, settings["quota_month_mb"])
    try:
        schedule.spans(settings["hours"])
    except ValueError as error:
        wrong = wrong or str(error)
    if wrong:
        raise config.ConfigError(wrong)


def _private(raw):
    """RFC 1918: a router in the home, before the modem's queue."""
    return raw[0] == 10 or (raw[0] == 172 and 16 <= raw[1] < 32) or (raw[0] == 192 and raw[1] == 168)


def _number(path):
    """A kernel counter, or None when it cannot be read."""
    text = files.read(path)
    try:
        return int(text) if text else None
    except ValueError:
        return None


def probe(run_dir):
    """Ask the agent to measure the uplink."""
    files.write_atomic(run_dir + "/probe.json", b"{}", 0o644, False)
