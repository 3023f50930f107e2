"""A buyer's traffic: files fetched again and again, each checked by its digest; what it felt goes to a report.

    python -m tests.soak.traffic --to 198.18.41.2 --files FOLDER --report F --seed 1
The report F is one JSON object, replaced every second: done, failed, wrong (came, but not as it left), bytes, last_ok (monotonic
seconds), longest_gap_s, first_ms (of the newest 2000 fetches: time to the first byte of the answer).
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

PATIENCE_S = 10.0
KEPT = 2000


def fetch(to: str, path: str) -> tuple[bytes, float]:
    """A file and the seconds until the answer began. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection(to, 80, timeout=PATIENCE_S)
    try:
        began = time.monotonic()
        connection.request("GET", path)
        answer = connection.getresponse()
        first = time.monotonic() - began
        return answer.read(), first
    finally:
        connection.close()


def write(report: Path, told: dict[str, Any]) -> None:
    draft = report.with_suffix(".tmp")
    draft.write_text(json.dumps(told))
    draft.rename(report)


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.soak.traffic")
    cli.add_argument("--to", required=True)
    cli.add_argument("--files", type=Path, required=True)
    cli.add_argument("--report", type=Path, required=True)
    cli.add_argument("--seed", type=int, default=1)
    args = cli.parse_args()
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    files = {"/" + p.name: hashlib.sha256(p.read_bytes()).digest() for p in sorted(args.files.iterdir())}
    chance, first_ms = random.Random(args.seed), deque[float](maxlen=KEPT)
    told: dict[str, Any] = dict.fromkeys(("done", "failed", "wrong", "bytes"), 0)
    last_ok, longest, wrote = time.monotonic(), 0.0, 0.0
    while not stop:
        path = chance.choice(list(files))
        try:
            body, first = fetch(args.to, path)
            if hashlib.sha256(body).digest() == files[path]:
                told["done"] += 1
                told["bytes"] += len(body)
                first_ms.append(round(first * 1000, 1))
                longest, last_ok = max(longest, time.monotonic() - last_ok), time.monotonic()
            else:
                told["wrong"] += 1
        except (OSError, http.client.HTTPException):
            told["failed"] += 1
        now = time.monotonic()
        if now - wrote > 1:
            wrote = now
            gap = round(max(longest, now - last_ok), 2)
            write(args.report, told | {"last_ok": last_ok, "longest_gap_s": gap, "first_ms": list(first_ms)})
        time.sleep(chance.uniform(0.2, 1.2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
