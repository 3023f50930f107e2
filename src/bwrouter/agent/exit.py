"""The exit's TUN device, addresses, forwarding and nftables rules: made here, undone here, never half left behind.

The device lives as long as someone holds its descriptor. The agent keeps one, so a relay that starts anew gets it
again; a relay that outlives its agent keeps the device, and the next agent leaves it alone (errno 16).
"""

import json
import os

from ..platform import config, files, net
from ..wire import sizes as S
from . import policy

_FORWARD4 = "/proc/sys/net/ipv4/ip_forward"
_FORWARD6 = "/proc/sys/net/ipv6/conf/all/forwarding"
_BUSY = "errno 16"


class ExitError(OSError):
    """The exit cannot be set up; the text names the step and its mend."""


class Exit:
    """A TUN device for each relay process. `fds` are their descriptors, -1 while there is none of our own."""

    def __init__(self, settings, log):
        self.settings = settings
        self.log = log
        workers = config.workers(settings)
        self.names = [policy.tun(settings, worker) for worker in range(workers)]
        self.fds = [-1] * workers
        self.error = ""
        self._undo_file = settings["run_dir"] + "/exit.json"

    def open(self):
        """Make whatever is missing. `error` says in words what failed; it is tried again at the next call."""
        try:
            for worker in range(len(self.fds)):
                self._tun(worker)
            self._rules()
            self._forward()
            self.error = ""
        except (OSError, ValueError) as error:
            self.error = str(error)
        self.log.change("exit", self.error)

    def close(self):
        """Undo everything `open` did, in this process or in one that was killed."""
        # The devices first, even if a relay holds them: nothing may leave while the rules are gone.
        quiet = " 2>/dev/null"
        for name in self.names:
            if os.system("ip link del dev " + name + quiet):
                self.log.debug("exit: there was no device " + name)
        if os.system("nft delete table inet " + policy.TABLE + quiet):
            self.log.debug("exit: there was no table " + policy.TABLE)
        for worker in range(len(self.fds)):
            if self.fds[worker] >= 0:
                net.close(self.fds[worker])
                self.fds[worker] = -1
        files.remove(self.settings["run_dir"] + "/exit.nft")
        undo = files.read(self._undo_file)
        if undo is not None:
            for path, before in json.loads(undo):
                _write(path, before)
            files.remove(self._undo_file)

    def _tun(self, worker):
        if self.fds[worker] >= 0:
            return
        tun = self.names[worker]
        try:
            fd = net.open_tun(tun)
        except net.NetError as error:
            if str(error).endswith(_BUSY):
                return  # the relay holds it
            raise
        here4, here6 = policy.own_addresses(worker, len(self.fds))
        for command in (
            "ip addr add %s dev %s" % (here4, tun),
            "ip link set dev %s mtu %d up" % (tun, S.INNER_MTU),
            "ip -6 addr add %s dev %s nodad" % (here6, tun),
        ):
            if os.system(command):
                net.close(fd)
                raise ExitError("`%s` failed (its message stands above)" % command)
        self.fds[worker] = fd

    def _rules(self):
        file = self.settings["run_dir"] + "/exit.nft"
        text = policy.ruleset(self.settings).encode()
        if files.read(file) == text and not os.system("nft list table inet %s >/dev/null 2>&1" % policy.TABLE):
            return
        files.write_atomic(file, text, 0o600, False)
        if os.system("nft -f " + file):
            raise ExitError("`nft -f %s` failed (its message stands above); is nftables installed?" % file)

    def _forward(self):
        """Turn forwarding on where it is off, and remember what was."""
        done = []
        for path in (_FORWARD4, _FORWARD6):
            before = _read(path)
            if before == "0":
                if path == _FORWARD6:
                    self._keep_router_advertisements(done)
                done.append([path, before])
                _write(path, "1")
        if done:
            old = files.read(self._undo_file)
            every = (json.loads(old) if old else []) + done
            files.write_atomic(self._undo_file, json.dumps(every).encode(), 0o600, False)

    def _keep_router_advertisements(self, done):
        # A host that begins to forward stops taking router advertisements unless it is told to go on (accept_ra 2).
        path = "/proc/sys/net/ipv6/conf/" + self.settings["wan"] + "/accept_ra"
        before = _read(path)
        if before == "1":
            done.append([path, before])
            _write(path, "2")


def _read(path):
    text = files.read(path)
    return text.decode().strip() if text is not None else None


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)
