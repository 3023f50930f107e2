"""`bw check`: what this machine's network shows to others, as it is now. Every row says what was found and whether it
is as it should be; with no tunnel up, the rows say what the provider sees without one."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests
from pyroute2 import IPRoute

from . import killswitch
from .netconf import TABLE
from .settings import Settings

_STUN_MAGIC = 0x2112A442
PUBLIC4, PUBLIC6 = "9.9.9.9", "2620:fe::fe"


def audit(s: Settings, status: dict[str, Any], more: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """`rows` (what, found, ok), `verdict` in words, `ok`. `more`: rows of what the user asked for besides."""
    up = status.get("state") in ("up", "moving", "new exit")
    rows = [
        {"what": "tunnel", "found": status.get("state", "never up"), "ok": up},
        {"what": "kill switch", "found": "closed" if killswitch.closed() else "open", "ok": killswitch.closed()},
        _route("IPv4", socket.AF_INET, PUBLIC4, s.tun), _route("IPv6", socket.AF_INET6, PUBLIC6, s.tun), _dns(s),
        _mtu(s), _time_to_first_byte(s),
    ]  # fmt: skip
    rows += [*more, *_sees(s, status)]
    bad = [r["what"] for r in rows if not r["ok"]]
    if not up:
        verdict = "No tunnel is up: your provider sees every address that you speak to. `bw up` starts one."
    elif bad:
        verdict = f"The tunnel is up, but look at: {', '.join(bad)}."
    else:
        verdict = "All that leaves goes through the tunnel. Your provider sees one relay, and how much you move."
    return {"rows": rows, "verdict": verdict, "ok": up and not bad}


def _route(name: str, family: int, address: str, tun: str) -> dict[str, Any]:
    """Through which interface the kernel would send, and from which address: what STUN in a browser would show."""
    try:
        with IPRoute() as ip, socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 3478))
            source = probe.getsockname()[0]
            found = ip.get_addr(family=family, address=source)
            index = found[0]["index"] if found else 0
            link = dict(ip.get_links(index)[0]["attrs"])["IFLA_IFNAME"] if index else "?"
    except OSError:
        return {"what": f"{name} way out", "found": "none", "ok": True}
    return {"what": f"{name} way out", "found": f"{link}, from {source}", "ok": link == tun}


def _dns(s: Settings) -> dict[str, Any]:
    try:
        words = [line.split() for line in Path(s.resolv_conf).read_text().splitlines()]
    except OSError as e:
        return {"what": "name resolution", "found": f"{s.resolv_conf}: {e.strerror}", "ok": False}
    servers = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]
    ok = bool(servers) and (not s.dns or servers == list(s.dns) or servers == ["127.0.0.53"])
    return {"what": "name resolution", "found": ", ".join(servers) or "no server", "ok": ok}


def _mtu(s: Settings) -> dict[str, Any]:
    try:
        mtu = int(Path("/sys/class/net", s.tun, "mtu").read_text())
    except OSError:
        return {"what": "MTU inside", "found": f"there is no {s.tun}", "ok": False}
    return {"what": "MTU inside", "found": str(mtu), "ok": mtu >= 1280}


def _time_to_first_byte(s: Settings) -> dict[str, Any]:
    began = time.monotonic()
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.get(s.gateway.url + "/healthz", timeout=10, stream=True).close()
    except requests.RequestException as e:
        return {"what": "first byte from the gateway", "found": type(e).__name__, "ok": False}
    return {"what": "first byte from the gateway", "found": f"{(time.monotonic() - began) * 1000:.0f} ms", "ok": True}


def _sees(s: Settings, status: dict[str, Any]) -> list[dict[str, Any]]:
    with IPRoute() as ip:
        rules = [r for r in ip.get_rules() if dict(r["attrs"]).get("FRA_TABLE") == TABLE]
    hops = status.get("hops") or []
    found = f"datagrams with {hops[0]['address']}" if hops and rules else "everything"
    rows = [{"what": "your provider sees", "found": found, "ok": bool(hops and rules)}]
    if os.geteuid() == 0 and killswitch.closed():
        rows.append({"what": "packets kept from leaving", "found": str(killswitch.dropped()), "ok": True})
    return rows


def stun_row(server: str) -> dict[str, Any]:
    """What a STUN server at `server` (HOST:PORT) sees, as a browser's WebRTC would learn it; good when it is no address
    of this machine's own links."""
    host, _, port = server.rpartition(":")
    what = "address that STUN sees"
    try:
        place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0][4]
        seen = stun((str(place[0]), int(place[1])))[0]
        with IPRoute() as ip:
            own = {dict(a["attrs"]).get("IFA_ADDRESS") for a in ip.get_addr()}
    except (OSError, ValueError) as e:
        return {"what": what, "found": f"{server}: {e}", "ok": False}
    return {"what": what, "found": seen, "ok": seen not in own}


def download_row(url: str, move: Callable[..., None], seconds: float = 8.0) -> dict[str, Any]:
    """How fast `url` comes, over `seconds` or until its end. `move(done, text)` shows it."""
    got, began = 0, time.monotonic()
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=10, stream=True)
            answer.raise_for_status()
            began = time.monotonic()
            for part in answer.iter_content(1 << 16):
                got += len(part)
                spent = time.monotonic() - began
                move(None, f"Downloading, {got / 1e6:.1f} MB at {got * 8e-6 / max(spent, 0.001):.1f} Mbit/s")
                if spent > seconds:
                    break
            answer.close()
    except requests.RequestException as e:
        return {"what": "download", "found": type(e).__name__, "ok": False}
    spent = max(time.monotonic() - began, 0.001)
    return {"what": "download", "found": f"{got * 8e-6 / spent:.1f} Mbit/s over {spent:.1f} s", "ok": got > 0}


def stun(server: tuple[str, int], seconds: float = 2.0) -> tuple[str, int]:
    """The address that a STUN server sees (RFC 8489, binding request over UDP). Raises OSError."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    token = os.urandom(12)
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(seconds)
        s.sendto(struct.pack(">HHI", 1, 0, _STUN_MAGIC) + token, server)
        answer = s.recv(1500)
    if answer[8:20] != token or answer[:2] != b"\x01\x01":
        raise OSError("no STUN answer")
    at = 20
    while at + 4 <= len(answer):
        kind, size = struct.unpack_from(">HH", answer, at)
        value = answer[at + 4 : at + 4 + size]
        if kind == 0x20:
            port = struct.unpack_from(">H", value, 2)[0] ^ (_STUN_MAGIC >> 16)
            mask = struct.pack(">I", _STUN_MAGIC) + token
            raw = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
            return socket.inet_ntop(socket.AF_INET if value[1] == 1 else socket.AF_INET6, raw), port
        at += 4 + size + (-size % 4)
    raise OSError("a STUN answer without an address")
