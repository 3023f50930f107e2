"""A dishonest buyer: real client code with one thing wrong. Prints one JSON object.

    python -m tests.lab.rogue --config build/run/buyer/config.json --wrong forged|spent|unpaid|noise
forged: the mint's signature on every ticket has one bit flipped. spent: every hop is paid with the same ticket.
unpaid: after the circuit stands, nothing is paid any more and packets are sent all the same. noise: random datagrams, and
what went over the wire while a good circuit was built, sent again whole and cut short, from another port.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import struct
import sys
import time
from typing import Any

from bwclient import directory, path, settings
from bwclient.circuit import CircuitError
from bwclient.meter import MeterError
from bwclient.purse import Purse
from bwclient.tickets import Ticket
from bwclient.tunnel import Tunnel
from bwrouter.wire.descriptor import Descriptor

ETH_P_ALL, PACKET_OUTGOING = 3, 4
FLOOD = 2000  # inner packets of 1300 bytes: 42 units


class Forged:
    """Tickets that the mint never signed."""

    def __init__(self, purse: Purse) -> None:
        self.purse = purse

    def take(self, region: int) -> Ticket:
        good = self.purse.take(region)
        return dataclasses.replace(good, output=bytes([good.output[0] ^ 1]) + good.output[1:])


class Spent:
    """The same ticket again and again."""

    def __init__(self, purse: Purse) -> None:
        self.purse = purse
        self.ticket: Ticket | None = None

    def take(self, region: int) -> Ticket:
        self.ticket = self.ticket or self.purse.take(region)
        return self.ticket


class Miser(Tunnel):
    """Pays for as long as it likes."""

    pays = True

    def _pay(self, *args: Any) -> None:
        if self.pays:
            super()._pay(*args)


class Wiretap:
    """UDP payloads that leave this namespace for `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.sock.setblocking(False)

    def read(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            try:
                data, (_, _, kind, *_) = self.sock.recvfrom(4096)
            except BlockingIOError:
                return found
            head = (data[0] & 15) * 4
            if kind == PACKET_OUTGOING and data[9] == 17 and struct.unpack_from(">H", data, head + 2)[0] == self.port:
                found.append(data[head + 8 :])


def build(tunnel: Tunnel, hops: list[Descriptor]) -> str:
    """The error of building and then using the circuit for a moment, or nothing."""
    try:
        tunnel.build(hops)
        end = time.monotonic() + 3
        tunnel.run(lambda: time.monotonic() > end)
    except (CircuitError, MeterError) as e:
        return f"{type(e).__name__}: {e}"
    return ""


def unpaid(tunnel: Miser, hops: list[Descriptor]) -> dict[str, Any]:
    tunnel.build(hops)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far.setblocking(False)
    tunnel.attach(far.detach())
    assert tunnel.circuit
    paid = [h.meter.paid_units for h in tunnel.circuit.hops]
    tunnel.pays = False
    body = struct.pack(">HHHH", 4000, 9, 8 + 1272, 0) + bytes(1272)
    inner, sink = socket.inet_aton(tunnel.inner_v4), socket.inet_aton("198.18.42.2")
    packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0) + inner + sink + body
    for _ in range(FLOOD):
        near.send(packet)
        tunnel.step(1)
    for _ in range(20):
        tunnel.step(20)
    return {"paid": paid, "sent": FLOOD * (len(packet) + 3 * 17 + 24)}


def noise(tunnel: Tunnel, hops: list[Descriptor]) -> dict[str, Any]:
    tap = Wiretap(hops[0].port4)
    tunnel.build(hops)
    end = time.monotonic() + 2.5
    tunnel.run(lambda: time.monotonic() > end)  # let the circuit come to rest, and its CREDITs
    seen = tap.read()
    relay = (socket.inet_ntoa(hops[0].v4), hops[0].port4)
    answers = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        bad = [os.urandom(n) for n in (0, 1, 24, 41, 64, 300, 1200, 1472)]
        bad += [s[: len(s) - cut] for s in seen for cut in (1, 16, 17)] + seen
        for datagram in bad:
            other.sendto(datagram, relay)
            time.sleep(0.002)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                other.recv(2048)
                answers += 1
            except BlockingIOError:
                time.sleep(0.01)
    return {"sent": len(bad), "replayed": len(seen), "answers": answers}


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.lab.rogue")
    cli.add_argument("--config", required=True)
    cli.add_argument("--wrong", required=True, choices=("forged", "spent", "unpaid", "noise"))
    args = cli.parse_args()
    s = settings.load(args.config)
    purse = Purse(s)
    purse.stock_up()
    hops = path.choose(directory.fetch(s.gateway.url, bytes.fromhex(s.gateway.key)).relays, s.hops, s.region)
    source = Forged(purse) if args.wrong == "forged" else Spent(purse) if args.wrong == "spent" else purse
    tunnel = Miser(source)
    told: dict[str, Any] = {"hops": [h.relay.hex() for h in hops]}
    if args.wrong in ("forged", "spent"):
        told["error"] = build(tunnel, hops)
    else:
        told |= (unpaid if args.wrong == "unpaid" else noise)(tunnel, hops)
    print(json.dumps(told), flush=True)
    tunnel.close(patience=0.2)
    purse.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
