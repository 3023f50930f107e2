"""Round trips to one address by ICMP echo (RFC 792), without blocking.

Needs net.ipv4.ping_group_range to hold our group, or CAP_NET_RAW.
"""

import struct

from . import clock, consts, ffi, net

_RAW = 3  # SOCK_RAW, on every CPU
_ICMP = 1
KEEP = 32  # echoes under way
SIZE = 40  # bytes of an echo: a short packet of the household


class Echo:
    """`fd` is polled by the owner; -1 when the system lets no echo be sent (`error` says why)."""

    def __init__(self, ip):
        """`ip`: 4 bytes."""
        self.error = ""
        self.raw = False
        self._to = struct.pack("H", consts.AF_INET) + b"\0\0" + bytes(ip) + bytes(8)
        self._ip = bytes(ip)
        flags = consts.O_CLOEXEC | consts.O_NONBLOCK
        self.fd = net.socket_fd(consts.AF_INET, consts.SOCK_DGRAM | flags, _ICMP)
        if self.fd < 0:
            self.raw = True
            self.fd = net.socket_fd(consts.AF_INET, _RAW | flags, _ICMP)
        if self.fd < 0:
            self.error = "no ICMP socket: errno %d" % ffi.errno()
        self._id = clock.us() & 0xFFFF
        self._seq = 0
        self._sent = [0] * KEEP
        self._waits = [-1] * KEEP
        self._buf = bytearray(256)

    def send(self):
        """Send one echo; False when it could not go."""
        if self.fd < 0:
            return False
        seq = self._seq = (self._seq + 1) & 0xFFFF
        packet = bytearray(SIZE)
        struct.pack_into(">BBHHH", packet, 0, 8, 0, 0, self._id, seq)
        struct.pack_into(">H", packet, 2, _checksum(packet))
        self._sent[seq % KEEP] = clock.us()
        self._waits[seq % KEEP] = seq
        return net.sendto(self.fd, packet, self._to)

    def read(self):
        """The next round trip in us, None when no answer waits."""
        while self.fd >= 0:
            n = net.READ(self.fd, ffi.addr(self._buf), 256)
            if n <= 0:
                return None
            at = 0
            if self.raw:
                at = (self._buf[0] & 15) * 4
                if self._buf[12:16] != self._ip or n < at + 8:
                    continue
                if struct.unpack_from(">H", self._buf, at + 4)[0] != self._id:
                    continue
            if self._buf[at]:  # not an echo reply
                continue
            seq = struct.unpack_from(">H", self._buf, at + 6)[0]
            if self._waits[seq % KEEP] == seq:
                self._waits[seq % KEEP] = -1
                return clock.diff(clock.us(), self._sent[seq % KEEP])
        return None

    def close(self):
        if self.fd >= 0:
            net.close(self.fd)
            self.fd = -1


def _checksum(packet):
    """RFC 1071, of an even number of bytes."""
    total = 0
    for i in range(0, len(packet), 2):
        total += packet[i] << 8 | packet[i + 1]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def default_gateway(routes, wan):
    """4 bytes of interface `wan`'s default gateway from the text of /proc/net/route, None without one."""
    for line in routes.split("\n")[1:]:
        words = line.split()
        if len(words) > 7 and words[0] == wan and words[1] == "00000000" and words[7] == "00000000":
            if words[2] != "00000000":
                return struct.pack("I", int(words[2], 16))
    return None
