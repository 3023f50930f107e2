"""A TCP connection on which somebody types: short lines, each answered at once.

    python -m tests.client.echo serve --port 2222
    python -m tests.client.echo type --to A --port 2222 --report F
The report F is one JSON object, replaced every half second: `lines`, `lost` (connections that broke), `gap_ms` (the
longest time between two answers since the last SIGUSR1), `gaps_ms` (one for each SIGUSR1).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

EVERY = 0.05


def serve(port: int) -> int:
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    print("ready", flush=True)
    while True:
        s, _ = listener.accept()
        threading.Thread(target=_answer, args=(s,), daemon=True).start()


def _answer(s: socket.socket) -> None:
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        while data := s.recv(4096):
            s.sendall(data)


def type_(to: str, port: int, report: Path) -> int:
    told: dict[str, object] = {"lines": 0, "lost": 0, "gap_ms": 0.0, "gaps_ms": []}
    gaps: list[float] = []
    stop: list[int] = []
    worst, lines, lost, wrote = 0.0, 0, 0, 0.0
    marks: list[int] = []
    signal.signal(signal.SIGUSR1, lambda *_: marks.append(1))
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    s = socket.create_connection((to, port), timeout=20)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.setblocking(False)
    heard = at = time.monotonic()
    while not stop:
        now = time.monotonic()
        if marks:
            gaps.append(round(worst * 1000, 1))
            marks.clear()
            worst = 0.0
        try:
            if now >= at:
                at = now + EVERY
                s.send(b"%08d\n" % lines)
            if select.select([s], [], [], 0.01)[0]:
                data = s.recv(65536)
                if not data:
                    raise ConnectionError
                lines += data.count(b"\n")
                worst = max(worst, time.monotonic() - heard)
                heard = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            lost += 1
            time.sleep(0.2)
            with contextlib.suppress(OSError):
                s = socket.create_connection((to, port), timeout=5)
                s.setblocking(False)
        worst = max(worst, time.monotonic() - heard)
        if now - wrote > 0.2:
            wrote = now
            told |= {"lines": lines, "lost": lost, "gap_ms": round(worst * 1000, 1), "gaps_ms": gaps}
            tmp = report.with_suffix(".tmp")
            tmp.write_text(json.dumps(told))
            tmp.replace(report)
    return 0


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.client.echo")
    cli.add_argument("what", choices=("serve", "type"))
    cli.add_argument("--port", type=int, default=2222)
    cli.add_argument("--to", default="")
    cli.add_argument("--report", type=Path, default=Path("echo.json"))
    args = cli.parse_args()
    return serve(args.port) if args.what == "serve" else type_(args.to, args.port, args.report)


if __name__ == "__main__":
    sys.exit(main())
