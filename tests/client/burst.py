"""A TCP sender by hand into a TUN as the client makes it: prints how many acknowledgements a burst of segments brings.

To be run in a network namespace of its own, with a sysfs that shows it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess

from bwclient.netconf import join_packets
from bwrouter.platform import net

TUN, HERE, FAR = "burst0", "10.9.9.1", "10.9.9.2"
SEGMENTS, SIZE = 40, 1316
SYN, PSH, ACK = 2, 8, 16


def summed(raw: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{len(raw) // 2}H", raw))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(port: int, number: int, acknowledged: int, flags: int, body: bytes = b"") -> bytes:
    """IPv4 and TCP from FAR's port 4000 to HERE."""
    source, target = socket.inet_aton(FAR), socket.inet_aton(HERE)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(body), 0, 0x4000, 64, 6, 0, source, target)
    ip = ip[:10] + struct.pack(">H", summed(ip)) + ip[12:]
    tcp = struct.pack(">HHIIBBHHH", 4000, port, number, acknowledged, 0x50, flags, 65535, 0, 0)
    whole = source + target + struct.pack(">HH", 6, len(tcp) + len(body)) + tcp + body
    return ip + tcp[:16] + struct.pack(">H", summed(whole)) + tcp[18:] + body


def answers(fd: int, seconds: float) -> list[bytes]:
    """TCP packets that come out of the TUN until it is silent for so long."""
    found = []
    while select.select([fd], [], [], seconds)[0]:
        raw = os.read(fd, 2000)
        if raw[0] >> 4 == 4 and raw[9] == 6:
            found.append(raw)
    return found


def main() -> None:
    fd = net.open_tun(TUN, napi=True)
    join_packets(TUN)
    for words in (f"addr add {HERE}/24 dev {TUN}", f"link set {TUN} mtu 1368 up"):
        subprocess.run(["ip", *words.split()], check=True)
    with socket.create_server((HERE, 0)) as server:
        port = server.getsockname()[1]
        os.write(fd, packet(port, 1000, 0, SYN))
        (answer,) = answers(fd, 0.3)
        following = struct.unpack_from(">I", answer, 24)[0] + 1
        os.write(fd, packet(port, 1001, following, ACK))
        connection = server.accept()[0]
        burst = [packet(port, 1001 + i * SIZE, following, ACK, bytes(SIZE)) for i in range(SEGMENTS)]
        for raw in burst:
            os.write(fd, raw)
        told = answers(fd, 0.3)
        last = max(struct.unpack_from(">I", raw, 28)[0] for raw in told)
        assert last == 1001 + SEGMENTS * SIZE, "not all of it arrived"
        connection.close()
    print(len(told))


if __name__ == "__main__":
    main()
