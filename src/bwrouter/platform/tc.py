"""Traffic control: applies a plan (agent/shape.py), by `tc` where Python has no netlink, by pyroute2 where it has.

Both have one face: root(wan), apply(wan, plan, text), change(...), clear(wan). A plan is applied wholly or not at all.
"""

import os

from . import files

try:
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError:
    IPRoute = None

_ETH_P = {"ip": 0x0800, "ipv6": 0x86DD}


class TcError(OSError):
    """A step failed and everything was undone; the text names the step and the mend."""


class Command:
    """By the `tc` command; `scratch` is a folder in RAM. `log(text)` hears every command and its result."""

    def __init__(self, scratch, log):
        self.scratch, self.log = scratch, log

    def _run(self, words):
        """(exit code, output) of `tc words`."""
        out = self.scratch + "/tc.out"
        code = os.system("tc " + words + " >" + out + " 2>&1")
        text = (files.read(out) or b"").decode()
        files.remove(out)
        self.log("tc %s: %s" % (words, "ok" if not code else text.strip() or "code %d" % code))
        return code, text

    def root(self, wan):
        """(kind, handle, options as text) of the root qdisc; None when `tc` or the interface is missing."""
        code, text = self._run("qdisc show dev " + wan)
        if code:
            return None
        for line in text.split("\n"):
            words = line.split()
            if len(words) > 3 and words[0] == "qdisc" and words[3] == "root":
                return words[1], int(words[2].split(":")[0] or "0", 16) << 16, " ".join(words[4:])
        return "none", 0, ""

    def apply(self, wan, plan, text):
        for op in plan:
            code, said = self._run(text(op, wan))
            if code and not op.optional:
                self.clear(wan)
                raise TcError("`tc %s` failed: %s" % (text(op, wan), said.strip()))

    def change(self, wan, plan, text):
        for op in plan:
            code, said = self._run(text(op, wan, "change"))
            if code and not op.optional:
                raise TcError("`tc %s` failed: %s" % (text(op, wan, "change"), said.strip()))

    def clear(self, wan):
        """Remove the root qdisc; the kernel puts its default in place."""
        return not self._run("qdisc del dev %s root" % wan)[0]


class Netlink:
    """By pyroute2, with the same effect in the kernel."""

    def __init__(self, scratch, log):
        self.log = log

    def _index(self, ip, wan):
        found = ip.link_lookup(ifname=wan)
        if not found:
            raise TcError("interface %s does not exist" % wan)
        return found[0]

    def root(self, wan):
        with IPRoute() as ip:
            try:
                index = self._index(ip, wan)
            except TcError:
                return None
            for q in ip.get_qdiscs(index):
                if q["parent"] == 0xFFFFFFFF:
                    return q.get_attr("TCA_KIND"), q["handle"], _options(q)
        return "none", 0, ""

    def apply(self, wan, plan, text):
        with IPRoute() as ip:
            index = self._index(ip, wan)
            for op in plan:
                try:
                    self._step(ip, index, op, "add")
                    self.log("netlink %s: ok" % text(op, wan))
                except (NetlinkError, OSError) as error:
                    self.log("netlink %s: %s" % (text(op, wan), error))
                    if not op.optional:
                        self.clear(wan)
                        raise TcError("`tc %s` failed: %s" % (text(op, wan), error))

    def change(self, wan, plan, text):
        with IPRoute() as ip:
            index = self._index(ip, wan)
            for op in plan:
                try:
                    self._step(ip, index, op, "change")
                except (NetlinkError, OSError) as error:
                    if not op.optional:
                        raise TcError("`tc %s` failed: %s" % (text(op, wan, "change"), error))

    def clear(self, wan):
        with IPRoute() as ip:
            try:
                ip.tc("del", index=self._index(ip, wan), parent=0xFFFFFFFF)
            except (NetlinkError, OSError):
                return False
        return True

    def _step(self, ip, index, op, verb):
        o = op.options
        if op.kind == "qdisc":
            ip.tc(verb, op.name, index, op.handle, parent=op.parent or 0xFFFFFFFF, **o)
        elif op.kind == "class":
            ip.tc(
                verb + "-class", op.name, index, op.handle, parent=op.parent, prio=o["prio"], quantum=1514,
                rate=o["rate"] * 125, ceil=o["ceil"] * 125, burst=o["burst"], cburst=o.get("cburst", o["burst"]),
            )  # fmt: skip
        else:
            keys = ["0x%08x/0x%08x+%d" % key for key in o["keys"]]
            ip.tc(
                verb + "-filter", op.name, index, parent=op.parent, prio=o["pref"], protocol=_ETH_P[o["protocol"]],
                target=op.parent | o["flow"], keys=keys,
            )  # fmt: skip


def _options(q):
    """What of a foreign qdisc's options matters: cake's DSCP mode, in `tc`'s words."""
    options = q.get_attr("TCA_OPTIONS")
    if options is None or q.get_attr("TCA_KIND") != "cake":
        return ""
    modes = ("diffserv3", "diffserv4", "diffserv8", "besteffort", "precedence")
    mode = options.get_attr("TCA_CAKE_DIFFSERV_MODE")
    return modes[mode] if isinstance(mode, int) and mode < len(modes) else str(mode or "")


def executor(scratch, log):
    """The one that this runtime has."""
    return (Command if IPRoute is None else Netlink)(scratch, log)
