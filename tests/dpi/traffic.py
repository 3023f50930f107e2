"""Real circuits at real relays, and everything that passed between them on loopback."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from pyroute2.ethtool.ioctl import IoctlEthtool

from bwclient.circuit import CircuitError
from bwclient.tunnel import Tunnel
from bwrouter.platform import sodium
from bwrouter.wire import sizes as S
from tests.fuzz.attacker import Peer, create
from tests.fuzz.world import echo
from tests.relay.scene import Scene, Source

_SO_RCVBUFFORCE = 33


class Capture:
    """All UDP datagrams over IPv4 on loopback to or from the relays' ports, whole frames with their times."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
        self.socket.bind(("lo", 0x0800))
        self.socket.settimeout(0.2)
        self.frames: list[tuple[float, bytes]] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            try:
                frame, where = self.socket.recvfrom(65535)
            except TimeoutError:
                continue
            if where[2] != socket.PACKET_OUTGOING and frame[23] == 17:
                self.frames.append((time.time(), frame))

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        self.socket.close()


@dataclass
class Traffic:
    """What was captured. `kinds`: create, reply (CREATED and COOKIE), forward, backward: (flow, datagram) in order."""

    frames: list[tuple[float, bytes]] = field(default_factory=list)
    kinds: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    clear: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)  # the same with the masks taken off

    @property
    def packets(self) -> int:
        return sum(map(len, self.kinds.values()))


class Talker:
    """A circuit that carries echoes full of zeros: the plainest plaintext there is."""

    def __init__(self, path: list):
        self.tunnel = Tunnel(Source())
        self.tunnel.build(path)
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        far.setblocking(False)
        self.tunnel.attach(far.detach())
        self.number = 0

    def talk(self, count: int, size: int) -> None:
        for _ in range(count):
            self.number += 1
            self.near.send(echo(self.tunnel.inner_v4, self.number, bytes(size)))
        self.tunnel.step(1)

    def listen(self) -> None:
        self.tunnel.step(1)
        try:
            while True:
                self.near.recv(2048)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.near.close()
        self.tunnel.close(patience=0.3)


def cut_runs() -> None:
    """From now on loopback carries every datagram by itself, as a wire does, not runs of them that are cut later."""
    ethtool = IoctlEthtool("lo")
    features = ethtool.get_features()
    features["tx-udp-segmentation"] = False
    ethtool.set_features(features)


def produce(packets: int, handshakes: int, limit: float = 600) -> Traffic:
    """At least so many packets, with at least so many CREATEs among them; fewer when `limit` seconds are over."""
    with Scene(count=3, max_circuits=1024) as scene:
        cut_runs()
        keys = {r.port: r.obf for r in scene.relays}
        a, b, c = scene.path()
        capture = Capture()
        peers = [Peer() for _ in range(8)]
        keys |= {p.port: p.obf for p in peers}
        talkers: list[Talker] = []
        sent = 0
        until = time.monotonic() + limit
        turn = 0
        while time.monotonic() < until and (len(capture.frames) < packets or sent < handshakes):
            if turn % 400 == 0:
                for t in talkers:
                    t.close()
                talkers = []
                for path in ([a, b, c], [b, a, c], [a, b, c], [b, c]):
                    try:
                        talkers.append(Talker(path))
                    except CircuitError:
                        pass  # busy with CREATEs: another one does
                keys |= {_port(t.tunnel.fd): t.tunnel.obf_key for t in talkers}
            if len(capture.frames) < packets:
                for i, t in enumerate(talkers):
                    t.talk(8, (40, 40, 300, 1000, 1300)[(turn + i) % 5])
                for t in talkers:
                    t.listen()
            else:
                time.sleep(0.005)
            for i in range(4 if sent < handshakes else 0):
                r = scene.relays[(turn + i) % 3]
                peer = peers[(turn + i) % len(peers)]
                peer.send(create(r, peer.obf), (r.ip, r.port))
                sent += 1
            turn += 1
        for t in talkers:
            t.close()
        time.sleep(0.3)
        capture.close()
        for p in peers:
            p.close()
        return sort(capture.frames, keys)


def _port(fd: int) -> int:
    from bwrouter.platform import net

    return int(net.local_port(fd))


def sort(frames: list[tuple[float, bytes]], keys: dict[int, bytes]) -> Traffic:
    """Datagrams by kind. `keys`: the receiver's obfuscation key by port, which no observer has."""
    out = Traffic()
    names = ("create", "reply", "forward", "backward")
    out.kinds = {k: [] for k in names}
    out.clear = {k: [] for k in names}
    flows: dict[bytes, int] = {}
    met: set[tuple[int, bytes]] = set()
    for when, frame in frames:
        body = frame[42:]
        port = int.from_bytes(frame[36:38], "big")
        if port not in keys or len(body) < S.PACKET_MIN:
            continue
        assert len(body) <= S.PACKET_MAX, "a run of datagrams was captured uncut"
        out.frames.append((when, frame))
        flow = flows.setdefault(frame[26:38], len(flows))
        head = bytes(sodium.stream_xor(keys[port], body[-12:], body[:24]))
        if head[:8] == bytes(8):
            kind = "create"
        elif head[16:24] == bytes(8):
            kind = "forward"
        else:
            kind = "backward" if (port, head[:8]) in met else "reply"
            met.add((port, head[:8]))
        out.kinds[kind].append((flow, body))
        out.clear[kind].append((flow, head + body[24:]))
    return out


def pcap(frames: list[tuple[float, bytes]], path: str) -> None:
    """Write a capture file (libpcap 2.4, Ethernet)."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for when, frame in frames:
            f.write(struct.pack("<IIII", int(when), int(when % 1 * 1e6), len(frame), len(frame)) + frame)


def random_twin(frames: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The same frames with random bytes for payloads."""
    return [(when, frame[:42] + os.urandom(len(frame) - 42)) for when, frame in frames]
