"""What a relay sees of the circuits through it: every datagram's time, size, direction and neighbour; its tickets."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

_ETH_P_IP, _HOST = 0x0800, 0
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
FROM_BEFORE, TO_NEXT, FROM_NEXT, TO_BEFORE = range(4)
NAMES = ("from before", "to next", "from next", "to before")
_SIZES = (100, 160, 240, 600, 1300)


@dataclass
class Seen:
    """One circuit: (time, way, UDP payload bytes, neighbour's port) of each datagram, and what its tickets were."""

    packets: list[tuple[float, int, int, int]] = field(default_factory=list)
    tickets: list[int] = field(default_factory=list)  # units of those opened
    paid: list[int] = field(default_factory=list)  # last index of each


class Tap:
    """Datagrams of the relay at a UDP port of this namespace's loopback interface; `exit` is the next hop's port."""

    def __init__(self, port: int, exit: int) -> None:
        self.port, self.exit = port, exit
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.socket.bind(("lo", _ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)

    def drain(self) -> list[tuple[float, int, int, int]]:
        """What has passed since the last call."""
        found: list[tuple[float, int, int, int]] = []
        while True:
            try:
                data, control, _, address = self.socket.recvmsg(64, 64, socket.MSG_TRUNC)
            except BlockingIOError:
                return found
            if address[2] != _HOST or data[9] != 17:
                continue
            head = (data[0] & 15) * 4
            source, to, size = struct.unpack_from(">HHH", data, head)
            if self.port not in (source, to):
                continue
            other = source if to == self.port else to
            way = (FROM_NEXT if other == self.exit else FROM_BEFORE) if to == self.port else (
                TO_NEXT if other == self.exit else TO_BEFORE)  # fmt: skip
            seconds, nanos = struct.unpack_from("qq", control[0][2])
            found.append((seconds + nanos / 1e9, way, size - 8, other))

    def close(self) -> None:
        self.socket.close()


def _quantiles(values: Sequence[float]) -> list[float]:
    v = sorted(values) or [0.0]
    return [v[int(q * (len(v) - 1))] for q in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)]


def features(s: Seen, ports: Sequence[int]) -> dict[str, float]:
    """Numbers by name: counts, sizes, gaps, bursts, times, tickets, which neighbour."""
    out: dict[str, float] = {}
    p = s.packets
    first, last = p[0][0], p[-1][0]
    out["lasts"] = last - first
    for i, port in enumerate(ports):
        out[f"neighbour {i}"] = float(any(x[3] == port for x in p))
    for way, name in enumerate(NAMES):
        mine = [x for x in p if x[1] == way]
        out[f"{name}: cells"] = len(mine)
        out[f"{name}: bytes"] = sum(x[2] for x in mine)
        for low, high in zip((0, *_SIZES), (*_SIZES, 2000), strict=True):
            out[f"{name}: {low}-{high} bytes"] = sum(low <= x[2] < high for x in mine)
        gaps = [math.log10(max(b[0] - a[0], 1e-7)) for a, b in zip(mine, mine[1:], strict=False)]
        for q, value in zip(("least", "p10", "p25", "p50", "p75", "p90", "most"), _quantiles(gaps), strict=True):
            out[f"{name}: gap {q}"] = value
        out[f"{name}: first"] = (mine[0][0] - first) if mine else -1
        out[f"{name}: quiet at the end"] = (last - mine[-1][0]) if mine else -1
        big = [x for x in mine if x[2] > 1300]
        out[f"{name}: first full"] = (big[0][0] - first) if big else -1
        out[f"{name}: bursts"] = sum(g > -1.7 for g in gaps)  # of 20 ms and more apart
        out[f"{name}: mean size"] = sum(x[2] for x in mine) / max(1, len(mine))
        small = sorted(x[2] for x in mine if x[2] < 600)
        out[f"{name}: small mean"] = sum(small) / max(1, len(small))
        out[f"{name}: kinds of sizes"] = len({x[2] for x in mine})
    data = [x for x in p if x[1] == FROM_NEXT]
    turns = [b[0] - a[0] for a, b in zip(p, p[1:], strict=False) if a[1] == TO_BEFORE and b[1] == FROM_BEFORE]
    for q, value in zip(("least", "p10", "p25", "p50", "p75", "p90", "most"), _quantiles(turns), strict=True):
        out[f"answer after {q}"] = value
    out["spread of data"] = (data[-1][0] - data[0][0]) if data else 0
    out["tickets"] = len(s.tickets)
    out["ticket units"] = sum(s.tickets)
    out["units paid"] = sum(s.paid)
    out["most paid of one"] = max(s.paid, default=0)
    out["unused"] = sum(s.tickets) - sum(s.paid)
    return out
