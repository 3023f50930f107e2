"""What an exit lets out, packet by packet: the same rules as the agent's nftables table (agent/policy.py), so that they
hold where nftables is missing, too.

In this order: private and own addresses never; port 25 never; what the owner denies; what the owner allows, or
everything where nothing is named.
"""

from ..platform import net
from ..wire import address

SMTP = 25
TCP = 6
UDP = 17
_PORTS = (TCP, UDP, 132, 136)  # with SCTP and UDP-Lite: the first four bytes are the ports
_FRAGMENT = 44
_EXTENSIONS = (0, 43, 60, 135, 139, 140)  # IPv6 headers of length (n + 1) * 8 (RFC 7045)
_AUTHENTICATION = 51  # (n + 2) * 4
_EXTENSIONS_MOST = 8
LATER = -1  # port of a later fragment: it has none, and is worth nothing without the first


class Rules:
    """`own`: (prefix, bits) of this router's. `allow`, `deny`: the owner's rules as text. Raises ValueError."""

    def __init__(self, own=(), allow=(), deny=()):
        self.own = own
        self.allow = [net.cidr_port(rule, "exit_allow") for rule in allow]
        self.deny = [net.cidr_port(rule, "exit_deny") for rule in deny]

    def refuses(self, target, protocol, port):
        """Whether a packet to `target` (4 or 16 bytes) must not leave. `port`: 0 where the protocol has none, LATER in
        a later fragment."""
        if protocol < 0 or address.refused(target, self.own) or (port == SMTP and protocol in _PORTS):
            return True
        for rule in self.deny:
            if _matches(rule, target, protocol, port) and not (rule[2] and port == LATER):
                return True
        for rule in self.allow:
            if _matches(rule, target, protocol, port):
                return False
        return bool(self.allow)


def _matches(rule, target, protocol, port):
    prefix, bits, wanted = rule
    if not address.within(target, prefix, bits):
        return False
    return not wanted or (protocol in (TCP, UDP) and port in (wanted, LATER))


def ports4(b, at, size):
    """(protocol, destination port) of the IPv4 packet of `size` bytes at index `at` of view `b`."""
    protocol = b[at + 9]
    if b[at + 6] & 0x1F or b[at + 7]:
        return protocol, LATER
    return protocol, _port(b, at, (b[at] & 15) << 2, size, protocol)


def ports6(b, at, size):
    """The same of an IPv6 packet, behind its extension headers. Protocol -1: too many, or cut off."""
    protocol = b[at + 6]
    where = 40
    for _ in range(_EXTENSIONS_MOST):
        if protocol in _PORTS:
            return protocol, _port(b, at, where, size, protocol)
        if protocol not in _EXTENSIONS and protocol not in (_FRAGMENT, _AUTHENTICATION):
            return protocol, 0
        if where + 8 > size:
            break
        following = b[at + where]
        if protocol == _FRAGMENT:
            if b[at + where + 2] or b[at + where + 3] & 0xF8:
                return following, LATER
            where += 8
        elif protocol == _AUTHENTICATION:
            where += (b[at + where + 1] + 2) << 2
        else:
            where += (b[at + where + 1] + 1) << 3
        protocol = following
    return -1, 0


def _port(b, at, where, size, protocol):
    if protocol not in _PORTS or where + 4 > size:
        return 0
    return b[at + where + 2] << 8 | b[at + where + 3]
