"""Live relays under attack, an honest circuit through all of them, and the judge of what comes out."""

from __future__ import annotations

import collections
import os
import random
import socket
import struct
import time
from typing import Any

from bwclient.circuit import CircuitError
from bwclient.meter import MeterError
from bwclient.tunnel import Tunnel
from bwrouter.platform import net
from bwrouter.wire import address
from bwrouter.wire import sizes as S
from tests.relay.scene import RelayProcess, Scene, Source

from .attacker import Attacked, Foothold, Peer, Sink, enter
from .attacks import WEIGHTS

_BEAT_TIMEOUT = 0.25
_DEAD_AFTER = 8.0  # seconds without an answer on the honest circuit
_ETH_P_ALL = 3
_MEMORY_KB = 512  # what a relay may still grow by after its first tenth


class Honest:
    """A paying circuit through all relays; one echo through it also shows that a relay has taken all before it."""

    def __init__(self, scene: Scene):
        self.tunnel = Tunnel(Source())
        self.tunnel.build(scene.path())
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        far.setblocking(False)
        self.tunnel.attach(far.detach())
        self.beats = self.repeated = self.number = 0
        self.worst = 0.0

    def beat(self) -> bool:
        """One echo there and back, bytes compared; said again when lost. False when the circuit is dead."""
        start = time.monotonic()
        self.beats += 1
        while time.monotonic() - start < _DEAD_AFTER:
            self.number += 1
            body = os.urandom(24)
            self.near.send(echo(self.tunnel.inner_v4, self.number, body))
            until = time.monotonic() + _BEAT_TIMEOUT
            while time.monotonic() < until:
                self.tunnel.step(5)
                for packet in self._inner():
                    if packet[28:] == body:
                        self.worst = max(self.worst, time.monotonic() - start)
                        return True
            self.repeated += 1
        return False

    def _inner(self) -> list[bytes]:
        try:
            return [self.near.recv(2048)]
        except BlockingIOError:
            return []

    def close(self) -> None:
        self.near.close()
        self.tunnel.close(patience=0.3)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~((total >> 16) + total) & 0xFFFF


def echo(src: str, number: int, body: bytes) -> bytes:
    """An ICMP echo request to an address of the scene."""
    icmp = struct.pack(">BBHHH", 8, 0, 0, 77, number & 0xFFFF) + body
    icmp = icmp[:2] + struct.pack(">H", _checksum(icmp)) + icmp[4:]
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, net.ip_bytes(src), net.ip_bytes("198.18.9.7")
    )
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + icmp


class ExitWatch:
    """All that the exit writes to its TUN: must come from a session's address and go nowhere that is refused."""

    def __init__(self, own: list[tuple[bytes, int]]):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.socket.bind(("bwexit0", _ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setblocking(False)
        self.own = own
        self.seen = 0

    def violations(self) -> list[str]:
        out = []
        while True:
            try:
                packet, where = self.socket.recvfrom(65536)
            except BlockingIOError:
                return out
            if where[2] == 4:  # PACKET_OUTGOING: towards the relay
                continue
            self.seen += 1
            four = packet[:1] and packet[0] >> 4 == 4
            src, dst = (packet[12:16], packet[16:20]) if four else (packet[8:24], packet[24:40])
            size = int.from_bytes(packet[2:4], "big") if four else 40 + int.from_bytes(packet[4:6], "big")
            if not src.startswith(S.INNER_V4 if four else S.INNER_V6[:4]):
                out.append(f"inner source {src.hex()}")
            if len(dst) not in (4, 16) or address.refused(dst, self.own):
                out.append(f"inner destination {dst.hex()}")
            if size != len(packet):
                out.append(f"inner length {size} of {len(packet)}")


class World:
    """Everything an attack may touch."""

    def __init__(self, scene: Scene, seed: int):
        self.scene = scene
        self.rng = random.Random(seed)
        self.sink = Sink(scene)
        self.stranger, self.other, self.victim = Peer(), Peer(), Peer()
        self.clients = [Peer() for _ in range(3)]
        for r in scene.relays:
            r.verdict = verdict  # type: ignore[method-assign]
        self.honest = Honest(scene)
        self.watch = ExitWatch([(net.ip_bytes(scene.relays[-1].ip), 32), (net.ip_bytes("192.168.1.0"), 24)])
        self.pids = [r.process.pid for r in scene.relays]
        self.memory = self._memory()
        self.seconds = 0.0
        self.footholds: list[Foothold] = []
        self.old_creates: collections.deque[tuple[tuple[str, int], bytes]] = collections.deque(maxlen=500)
        self.old_cells: list[bytes] = []
        self.expected = 0
        self.delivered = 0
        self.forwarded: collections.Counter[str] = collections.Counter()
        self.crashes: list[str] = []
        self.refused_entries = 0
        self.lost: list[str] = []
        self.kinds: collections.Counter[str] = collections.Counter()
        self._rebuild()

    # -- footholds -------------------------------------------------------------------

    @property
    def exit(self) -> RelayProcess:
        return self.scene.relays[-1]

    def _rebuild(self) -> None:
        """Fresh circuits of the attacker: two through each relay to the sink, and one session at the exit."""
        for f in self.footholds:
            f.client.send_run([f.seal(S.DESTROY, b"\0")] * 2, f.where)
            f.close()
        self.sink.links.clear()
        self.footholds = [enter(r, self.clients[i], self.sink) for r in self.scene.relays for i in (0, 1)]
        g = enter(self.exit, self.clients[2], None)
        self.footholds.append(g)
        for _ in range(10):
            g.client.send(g.seal(S.RESUME, bytes(S.RESUME_FORWARD)), g.where)
            for raw, _ in g.client.wait(0.5):
                hop, command, payload = g.open(raw)
                if command == S.RESUME:
                    self.session = g, payload[16:20], payload[20:36]
                    return
        raise Attacked("the exit gives the attacker no session")

    def foothold(self, relay: RelayProcess, but: Foothold | None = None) -> Foothold:
        return self.rng.choice([f for f in self.footholds if f.relay is relay and f is not but])

    def other_relay(self, relay: RelayProcess) -> RelayProcess:
        return self.rng.choice([r for r in self.scene.relays if r is not relay])

    def throwaway(self, relay: RelayProcess) -> Foothold | None:
        """A circuit of one hop for one attack; None when the relay is too busy with CREATEs for another one."""
        try:
            return enter(relay, self.clients[2], None, pay=0)
        except Attacked:
            self.refused_entries += 1
            return None

    def leave(self, f: Foothold) -> None:
        if self.rng.random() < 0.8:
            f.client.send_run([f.seal(S.DESTROY, b"\0")] * 2, f.where)
        f.close()

    def batch(self, size: int) -> int:
        """How many datagrams of `size` a relay's socket buffer holds with room to spare."""
        return 200 if size < 300 else 100

    # -- the loop ----------------------------------------------------------------------

    def run(self, seconds: float, cells: int) -> None:
        """Attack until the time is up or so many cells have been sent, whichever `seconds` or `cells` is not 0."""
        attacks, weights = list(WEIGHTS), list(WEIGHTS.values())
        start = shown = built = time.monotonic()
        warm = False
        rounds = 0
        while not self.crashes:
            now = time.monotonic()
            if (seconds and now - start > seconds) or (cells and self.cells >= cells):
                break
            if not warm and ((seconds and now - start > seconds / 10) or (cells and self.cells > cells / 10)):
                warm, self.memory = True, self._memory()
            if now - shown > 10:
                shown = now
                print(f"{now - start:6.0f} s  {self.cells:>10,} cells  {self._memory()} KiB", flush=True)
            if now - built > 60:
                built = now
                self._rebuild()
            chosen = self.rng.choices(attacks, weights, k=len(self.scene.relays))
            self.one(*(chosen if rounds >= len(attacks) else [attacks[rounds]]))
            rounds += 1
        self.seconds = time.monotonic() - start

    def one(self, *attacks: Any) -> None:
        """A batch of each attack, each on a relay of its own, and the judgement of them."""
        relays = self.rng.sample(self.scene.relays, len(attacks))
        for attack, relay in zip(attacks, relays):
            f = self.rng.choice([f for f in self.footholds if f.link and f.relay is relay])
            before = self.cells
            attack(self, f)
            self.kinds[attack.__name__] += self.cells - before
        names = " + ".join(sorted({a.__name__ for a in attacks}))
        alive = self.honest_beat()
        self.judge(names)
        for r in self.scene.relays:
            if r.process.poll() is not None:
                self.crashes.append(f"{names}: {r.ip} ended with {r.process.returncode}")
        if not alive and not self.crashes:
            self.crashes.append(f"{names}: the honest circuit is dead")

    def honest_beat(self) -> bool:
        try:
            return self.honest.beat()
        except (CircuitError, MeterError) as e:
            self.crashes.append(f"the honest circuit ended: {e}")
            return False

    def judge(self, name: str) -> None:
        """Look at all that has arrived anywhere."""
        by_cid = {f.link.own_cid: f for f in self.footholds if f.link}
        for packet in self.sink.serve():
            f = by_cid.get(packet[:8])
            wrong = "to no circuit" if f is None else f.arrived(packet)
            if wrong:
                self.forwarded[f"{name} forward: {wrong}"] += 1
            else:
                self.delivered += 1
        for client in self.clients:
            circuits = {f.circuit.cid: f for f in self.footholds if f.client is client}
            for raw, _ in client.take():
                g = circuits.get(raw[:0] or _cid_of(raw, client.obf))
                if g is None:
                    continue  # a CREDIT of a circuit that the attack has closed
                before = dict(g.circuit.drops)
                hop, _, _ = g.open(raw)
                if hop < 0:
                    self.forwarded[f"{name} backward {_changed(before, g.circuit.drops)}"] += 1
        for peer in self.strangers:
            for raw, _ in peer.take():
                if len(raw) > S.CREATE_MIN + S.PAD_MAX:
                    self.forwarded[name + " to a stranger"] += 1
        for text in self.watch.violations():
            self.forwarded[f"{name} {text}"] += 1

    # -- figures ---------------------------------------------------------------------------

    @property
    def strangers(self) -> list[Peer]:
        """Sockets that never prove anything to a relay but that they can send."""
        return [self.stranger, self.other, self.victim]

    @property
    def peers(self) -> list[Peer]:
        return [*self.strangers, self.sink.peer, *self.clients]

    @property
    def cells(self) -> int:
        return sum(p.cells for p in self.peers)

    def _memory(self) -> list[int]:
        return [resident_kb(pid) for pid in self.pids]

    def report(self) -> dict[str, Any]:
        """The figures, and `ok`."""
        end = self._memory() if not self.crashes else self.memory
        strangers = self.strangers
        sent = sum(p.sent for p in strangers)
        stats = [r.fresh_stats() for r in self.scene.relays] if not self.crashes else []
        drops: collections.Counter[str] = collections.Counter()
        for s in stats:
            drops.update(s["drops"])
        grown = max(b - a for a, b in zip(self.memory, end))
        answered = max(p.got / max(p.sent, 1) for p in strangers)
        result = {
            "cells": self.cells, "crashes": len(self.crashes), "forwarded": sum(self.forwarded.values()),
            "answered_bytes_per_received_byte": round(answered, 4),
            "received": sum(s["cells_in"] for s in stats), "forwarded_as_due": self.delivered,
            "honest_beats": self.honest.beats, "honest_repeats": self.honest.repeated,
            "honest_worst_ms": round(self.honest.worst * 1000), "grown_kb": grown, "unauthenticated_bytes": sent,
            "seconds": round(self.seconds), "refused_entries": self.refused_entries,
        }  # fmt: skip
        result["ok"] = bool(
            not self.crashes and not self.forwarded and answered <= 1 and grown <= _MEMORY_KB
            and self.delivered >= 0.99 * self.expected and result["received"] >= 0.98 * self.cells
        )  # fmt: skip
        self.details = {
            "crashes": self.crashes, "forwarded": dict(self.forwarded), "drops": dict(drops.most_common()),
            "kinds": dict(self.kinds), "memory_kb": [self.memory, end],
        }  # fmt: skip
        return result

    def close(self) -> None:
        self.honest.close()
        for f in self.footholds:
            f.close()
        for p in self.peers:
            p.close()
        self.watch.socket.close()


def verdict(message: dict[str, Any]) -> bool | None:
    """What a gateway says of a ticket, by its key id."""
    return {b"refused!".hex(): False, b"silence!".hex(): None}.get(message["key"], True)


def _cid_of(raw: bytes, obf: bytes) -> bytes:
    from .attacker import unmask

    return unmask(raw, obf)[:8] if len(raw) >= 41 else b""


def _changed(before: dict[str, int], after: dict[str, int]) -> str:
    return " ".join(k for k in after if after[k] != before.get(k, 0))


def resident_kb(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1])
    return 0
