"""`make dpi PACKETS=N`: the long form of tests/dpi; the last line is JSON."""

from __future__ import annotations

import argparse
import json
import sys

from bwrouter.wire import sizes as S

from .checker import ALPHA, check, spread
from .names import recognised
from .traffic import produce


def main() -> int:
    p = argparse.ArgumentParser(description="does anything of the traffic look like anything?")
    p.add_argument("--packets", type=int, default=400_000)
    a = p.parse_args()
    t = produce(a.packets, a.packets // 40)
    t.clear.clear()
    counts = {k: len(v) for k, v in t.kinds.items()}
    print(f"dpi: captured {counts}", flush=True)
    report = check(t.kinds)
    for f in report.findings[:50]:
        print(f"dpi: {f}")
    z, largest, distinct = spread([len(p) for _, p in t.kinds["create"]], S.PAD_MAX + 1)
    _, largest_reply, distinct_reply = spread([len(p) for _, p in t.kinds["reply"]], S.PAD_MAX + 1)
    ours, chance, names = recognised(t.frames)
    result = {
        "packets": t.packets, **counts, "alpha": ALPHA, "tests": report.tests, "bound": round(report.bound, 2),
        "largest_z": {k: round(v, 2) for k, v in report.largest.items()}, "findings": len(report.findings),
        "create_lengths": distinct, "create_length_z": round(z, 2), "created_lengths": distinct_reply,
        "tshark_named": round(ours, 6), "tshark_named_of_random": round(chance, 6), "tshark_names": names,
    }  # fmt: skip
    result["ok"] = bool(
        t.packets >= a.packets and not report.findings and abs(z) < 6 and max(largest, largest_reply) < 0.02
        and ours <= chance + 0.001
    )  # fmt: skip
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
