"""What one observer learns who holds a single relay, or a single link: never both who speaks and to whom.

The relays' processes are real: what each holds is read out of its memory while a download runs. Every end is looked for
in all forms in which a machine keeps an address. That the search finds what is there is shown by the two who may know
one end each: the first relay the buyer, the exit the site.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.client.stage import Stage
from tests.lab.net import Lab, Node, inside
from tests.lab.pool import Router

pytestmark = [pytest.mark.slow, pytest.mark.root]
BUYER_PORT = 40_917
SITE_PORT = 80
_SO_RCVBUFFORCE = 33


class Tap:
    """Every packet of a node's link, in both directions, from construction to `stop`."""

    def __init__(self, lab: Lab, node: Node) -> None:
        with inside(lab.inet):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
            self.sock.bind((node.link, 3))
        self.sock.settimeout(0.2)
        self.frames: list[bytes] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            with contextlib.suppress(TimeoutError):
                self.frames.append(self.sock.recv(2048))

    def stop(self) -> bytes:
        """All that was seen, one frame after the other without the Ethernet headers."""
        self._stop = True
        self._thread.join()
        self.sock.close()
        return b"\n".join(frame[14:] for frame in self.frames)


def forms(node: Node, port: int) -> list[bytes]:
    """A host's address as text, as 16 bytes, and as 4 bytes where they can't be chance: in a sockaddr, an IP header with
    the port, or mapped into IPv6."""
    v4, v6, p = socket.inet_aton(node.v4), socket.inet_pton(socket.AF_INET6, node.v6), struct.pack(">H", port)
    return [node.v4.encode(), node.v6.encode(), v6, p + v4, v4 + p, b"\xff\xff" + v4]


def names(data: bytes, node: Node, port: int) -> bool:
    return any(form in data for form in forms(node, port))


def in_headers(data: list[bytes], node: Node) -> bool:
    """Whether a frame's own IP header is from or to the node."""
    v4, v6 = socket.inet_aton(node.v4), socket.inet_pton(socket.AF_INET6, node.v6)
    return any(v4 in (f[26:30], f[30:34]) or v6 in (f[22:38], f[38:54]) for f in data)


def memory(pid: int) -> bytes:
    """Everything writable in a process's memory."""
    out = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            where, rights = line.split()[:2]
            if "w" not in rights:
                continue
            first, last = (int(x, 16) for x in where.split("-"))
            with contextlib.suppress(OSError, ValueError):
                mem.seek(first)
                out.append(mem.read(last - first))
    return b"\n".join(out)


@pytest.fixture
def downloading(lab: Stage) -> Iterator[Stage]:
    """A tunnel through three relays with a download over IPv4 and one over IPv6 that do not end."""
    for router in lab.pool.routers.values():  # a relay remembers whose first hop it has been before
        lab.kill(router)
        lab.revive(router)
    lab.write_config(listen_port=BUYER_PORT)
    time.sleep(2.0)
    lab.up()
    assert lab.pool.file
    loops = []
    for host in (lab.web.v4, f"[{lab.web.v6}]"):
        loop = f"while curl -sSf --limit-rate 300k -o /dev/null http://{host}{lab.pool.file.url_path}; do :; done"
        with inside(lab.buyer.ns):
            loops.append(subprocess.Popen(["sh", "-c", loop], start_new_session=True))
    yield lab
    for child in loops:
        os.killpg(child.pid, 9)
        child.wait()
    lab.write_config()


def test_nobody_can_name_both_ends(downloading: Stage) -> None:
    lab = downloading
    taps = {name: Tap(lab.lab, node) for name, node in lab.lab.nodes.items() if lab.pool.routers.get(name) or name in
            ("buyer", "web")}  # fmt: skip
    time.sleep(2.0)
    status = lab.status()
    path: list[Router] = [lab.router(i, status) for i in range(3)]
    held = [memory(r.relay.pid) for r in path if r.relay]
    seen = {name: (tap.frames[:], tap.stop()) for name, tap in taps.items()}

    # Who holds a relay has its memory and its link: each end's address, in whatever form.
    knows = [
        (names(m, lab.buyer, BUYER_PORT) or in_headers(seen[r.node.name][0], lab.buyer),
         names(m, lab.web, SITE_PORT) or in_headers(seen[r.node.name][0], lab.web))
        for r, m in zip(path, held, strict=True)
    ]  # fmt: skip
    assert knows == [(True, False), (False, False), (False, True)]
    assert all(len(m) > 1 << 20 for m in held)

    # Who watches a link sees the two relays at its ends, and reads nothing in what passes.
    for name, (frames, data) in seen.items():
        both = in_headers(frames, lab.buyer), in_headers(frames, lab.web)
        assert both != (True, True), name
        assert not (names(data, lab.buyer, BUYER_PORT) and names(data, lab.web, SITE_PORT)), name
    used = {r.node.name for r in path} | {"buyer", "web"}
    assert all(len(seen[name][0]) > 50 for name in used)
    assert in_headers(seen["buyer"][0], path[0].node) and not in_headers(seen["buyer"][0], path[1].node) | in_headers(
        seen["buyer"][0], path[2].node
    )
    assert in_headers(seen[path[1].node.name][0], path[0].node) and in_headers(
        seen[path[1].node.name][0], path[2].node
    )
