"""`make fuzz-wire SECONDS=N`: the parsers under a coverage-guided fuzzer, then live relays under attack.

The last line is one JSON object; the exit code is 0 only when nothing crashed, nothing was forwarded that must not be,
and nothing unauthenticated got more bytes than it brought.
"""

from __future__ import annotations

import argparse
import json
import random
import sys

from tests.relay.scene import Scene

from .attacker import Attacked
from .parsers import run_all
from .world import World


def main() -> int:
    p = argparse.ArgumentParser(description="fuzz the wire protocol: parsers, then live relays")
    p.add_argument("--seconds", type=float, default=60, help="of the attack on live relays; 0: until --cells")
    p.add_argument("--cells", type=int, default=0, help="stop after so many cells; 0: until --seconds")
    p.add_argument("--parsers", type=float, default=-1, help="seconds for the parsers; default: a quarter of --seconds")
    p.add_argument("--runtime", default="micropython", choices=("micropython", "cpython"))
    p.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    a = p.parse_args()
    print(f"fuzz-wire: seed {a.seed}, {a.runtime}", flush=True)
    seconds = a.parsers if a.parsers >= 0 else a.seconds / 4 if a.seconds else 60
    parsers = run_all(seconds, a.seed) if seconds else {}
    for text in parsers.get("parser_failures", []):
        print(text)
    parsers["parser_failures"] = len(parsers.get("parser_failures", []))
    with Scene(count=3, runtime=a.runtime) as scene:
        world = World(scene, a.seed)
        try:
            world.run(a.seconds, a.cells)
        except Attacked as e:
            world.crashes.append(str(e))
        result = world.report()
        print(json.dumps(world.details, indent=1))
        world.close()
    result |= parsers
    result["ok"] = result["ok"] and not parsers["parser_failures"]
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
