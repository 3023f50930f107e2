"""How buyers reach this router: its own public address, else a port that the modem forwards (PCP, NAT-PMP, UPnP IGD).

Nothing is asked of the modem where the owner has set a public address, or where the WAN has one. The lease is an hour
and is renewed at half; what works is asked first the next time. A modem whose own address is not public either is told
as what it is: then nobody can reach this line over IPv4.
"""

import os

from ..platform import clock, config, files, http, icmp, net
from ..wire import address
from . import portmap, upnp

LEASE_S = 3600
RETRY_S = 120  # after all ways failed: asking takes some seconds
LEASE_LEAST_S = 120
TRIES_MS = (250, 500, 1000)
SEARCH_MS = 700

PUBLIC4, PUBLIC6, MAPPED, ANCHORED, NONE = "public-v4", "public-v6", "mapped", "anchor", "none"


class Failed(OSError):
    """A way to a mapping did not work; the text says why."""


class Reach:
    """`keep` belongs in the process that may wait. `settings` gets `public_v4` and `mapped_port` of a mapping."""

    def __init__(self, settings, routes="/proc/net/route"):
        self.settings = settings
        self.error = ""
        self.by = ""
        self.port = 0
        self.anchor = None  # (address in text, port, relay in hex) of who is spoken to for us
        self.anchor_error = ""
        self._routes = routes
        self._own = bool(settings["public_v4"])
        self._due = None  # when to ask next, seconds since boot
        self._good = ""
        self._nonces = {}
        self._service = None  # (service type, control URL) of the modem's IGD
        self._poller = net.Poller([-1])

    def status(self):
        """For status.json: `state`, address and port where one is known, `by` which protocol, `error`."""
        s = self.settings
        state = PUBLIC4 if self._own else MAPPED if self.by else PUBLIC6 if s["public_v6"] else NONE
        place = (s["public_v6"] if state == PUBLIC6 else s["public_v4"], self.port or s["listen_port"], "")
        error = "" if state in (PUBLIC4, PUBLIC6) else self.error
        if state == NONE and self.anchor is not None:
            state, place, error = ANCHORED, self.anchor, ""
        elif state == NONE and self.anchor_error:
            error = (error + "; " if error else "") + self.anchor_error
        return {
            "state": state, "address": place[0], "port": place[1], "by": self.by, "anchor": place[2], "error": error,
        }  # fmt: skip

    def alone(self):
        """Whether nobody reaches this router by itself."""
        s = self.settings
        return not (self._own or self.by or s["public_v6"])

    def anchored(self, message):
        """What the first process says of our anchor. Whether the descriptor changes by it."""
        before = self.anchor
        place = message["v4"] and net.ip_text(bytes.fromhex(message["v4"]))
        self.anchor = (place, message["port"], message["relay"]) if place else None
        self.anchor_error = message["error"]
        return before != self.anchor

    def keep(self):
        """Ask for a mapping or renew it if that is due. True when what the descriptor says has changed."""
        if self._own or not self.settings["wan_v4"]:
            return False
        now = clock.uptime()
        if self._due is not None and now < self._due:
            return False
        before = (self.settings["public_v4"], self.port)
        ways = [("PCP", self._pcp), ("NAT-PMP", self._pmp), ("UPnP", self._upnp)]
        # What worked before comes first (MicroPython's sort does not keep the order of equals).
        ways = [way for way in ways if way[0] == self._good] + [way for way in ways if way[0] != self._good]
        self._due = now + RETRY_S
        said = []
        for name, way in ways:
            try:
                raw, port, seconds = self._all(way)
                if address.refused(raw):
                    raise Failed("the modem's own address, %s, is not public either" % net.ip_text(raw))
                self.settings["public_v4"], self.port = net.ip_text(raw), port
                self.settings["mapped_port"] = port
                self.by = self._good = name
                self.error = ""
                self._due = now + max(LEASE_LEAST_S, min(seconds, LEASE_S)) // 2
                break
            except (Failed, portmap.Refused, upnp.Malformed, http.HttpError, net.NetError) as error:
                said.append(name + ": " + str(error))
        else:
            self.error = "the modem forwards no port; " + "; ".join(said)
            self.by = ""
            self.settings["public_v4"], self.port = "", 0
            self.settings.pop("mapped_port", None)
        return before != (self.settings["public_v4"], self.port)

    def close(self):
        """Give the mapping back."""
        if not self.by:
            return
        way = {"PCP": self._pcp, "NAT-PMP": self._pmp, "UPnP": self._upnp}[self.by]
        for i in range(config.workers(self.settings)):
            try:
                way(self._gateway(), self.settings["listen_port"] + i, self.port + i, 0)
            except (OSError, ValueError):
                pass  # the lease ends by itself
        self.by = ""

    # -- the ways ------------------------------------------------------------------

    def _all(self, way):
        """Every worker's port, which must be neighbours outside too."""
        gateway = self._gateway()
        first = self.settings["listen_port"]
        base = self.port or first
        raw, port, seconds = way(gateway, first, base, LEASE_S)
        for i in range(1, config.workers(self.settings)):
            _, other, _ = way(gateway, first + i, port + i, LEASE_S)
            if other != port + i:
                raise Failed("the ports of the relay's processes are not neighbours outside")
        return raw, port, seconds

    def _gateway(self):
        """4 bytes. Raises Failed."""
        text = files.read(self._routes)
        found = icmp.default_gateway(text.decode(), self.settings["wan"]) if text else None
        if found is None:
            raise Failed("interface %s has no default route" % self.settings["wan"])
        return found

    def _pcp(self, gateway, internal, external, seconds):
        nonce = self._nonces.get(internal)
        if nonce is None:
            nonce = self._nonces[internal] = os.urandom(12)
        client = net.ip_bytes(self.settings["wan_v4"])
        request = portmap.pcp_map(client, nonce, internal, external, seconds)
        lease, port, raw = self._ask(gateway, request, lambda data: portmap.pcp_answer(data, nonce, internal))
        return raw, port, lease

    def _pmp(self, gateway, internal, external, seconds):
        raw = self._ask(gateway, portmap.pmp_address(), lambda data: portmap.pmp_answer(data, 0))
        body = self._ask(
            gateway,
            portmap.pmp_map(internal, external, seconds),
            lambda data: _mapping(portmap.pmp_answer(data, 1), internal),
        )
        return raw, body[1], body[0]

    def _ask(self, gateway, request, parse):
        """Send until `parse` takes an answer of the gateway. Raises Failed, portmap.Refused."""
        where = net.pack_addr(net.ip_text(gateway), portmap.PORT)
        fd = net.udp_socket(0)
        try:
            for wait in TRIES_MS:
                net.sendto(fd, request, where)
                found = self._hear(fd, gateway, wait, parse)
                if found is not None:
                    return found
        finally:
            net.close(fd)
        raise Failed("no answer")

    def _hear(self, fd, gateway, wait, parse):
        """What `parse` makes of an answer of the gateway within `wait` ms; None without one."""
        begun = clock.ms()
        self._poller.set(0, fd)
        found = None
        while found is None:
            left = wait - clock.diff(clock.ms(), begun)
            if left <= 0 or not self._poller.wait(left):
                break
            data, source = net.recvfrom(fd)
            if data is None:
                break  # refused by the host: ICMP
            if net.unpack_addr(source)[0] == gateway:
                found = parse(data)
        self._poller.set(0, -1)
        return found

    def _upnp(self, gateway, internal, external, seconds):
        if self._service is None:
            self._service = self._find(gateway)
        kind, url = self._service
        try:
            if seconds == 0:
                self._call(url, upnp.delete(kind, external))
                return bytes(4), external, 0
            answer = self._call(url, upnp.call(kind, "GetExternalIPAddress"))
            text = upnp.between(answer, "NewExternalIPAddress")[0]
            raw = net.ip_bytes(text or "0.0.0.0")
            seconds = self._add(url, kind, internal, external, seconds)
        except http.HttpError:
            self._service = None  # the modem was made anew: look for it again next time
            raise
        except ValueError as error:
            raise Failed(str(error))
        return raw, external, seconds

    def _add(self, url, kind, internal, external, seconds):
        client = self.settings["wan_v4"]
        try:
            self._call(url, upnp.add(kind, external, internal, client, seconds))
        except Fault as error:
            if error.code != upnp.ONLY_PERMANENT:
                raise
            self._call(url, upnp.add(kind, external, internal, client, 0))
        return seconds

    def _find(self, gateway):
        """(service type, control URL). The gateway alone is heard: another host of the home speaks for no modem."""
        host = net.ip_text(gateway)
        fd = net.udp_socket(0)
        try:
            for target in upnp.TARGETS:
                for to in (host, upnp.GROUP):
                    net.sendto(fd, upnp.search(target), net.pack_addr(to, upnp.PORT))
                url = self._hear(fd, gateway, SEARCH_MS, lambda data: upnp.location(data, host) or None)
                if url is not None:
                    status, text = http.fetch("GET", url, {}, None, upnp.BODY_MOST)
                    if status != 200:
                        raise Failed("its description answers %d" % status)
                    return upnp.service(text, url)
        finally:
            net.close(fd)
        raise Failed("no answer")

    @staticmethod
    def _call(url, call):
        headers, body = call
        _, text = http.fetch("POST", url, headers, body, upnp.BODY_MOST)
        code, words = upnp.fault(text)
        if code:
            raise Fault(code, words)
        return text


class Fault(Failed):
    """A SOAP fault of the modem."""

    def __init__(self, code, words):
        Failed.__init__(self, "%s (%d)" % (words or "refused", code))
        self.code = code


def _mapping(body, internal):
    return portmap.pmp_mapping(body, internal) if body is not None else None
