"""`make blind-audit`: can a relay tell covert audits from buyers? The last line is a JSON object.

Circuits of both kinds through a real relay, at random by turns; boosted trees learn from what the relay saw and are
asked about circuits that they have not seen. As a control the same trees must tell bandwidth proofs, which are no
secret.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.blind.lane import AUDIT, CUSTOMER, PROVE
from bench.blind.trees import cross_validated

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build/blind"
GOAL, CONTROL = 0.55, 0.95


def gather(circuits: int, lanes: int) -> list[dict[str, Any]]:
    """Run the lanes, all at once; what their relays saw. Raises RuntimeError when one fails."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    started = []
    for i in range(lanes):
        out = FOLDER / f"lane{i}.jsonl"
        words = [str(circuits // lanes // 2 * 2), str(max(4, circuits // lanes // 20)), str(i + 1), str(out)]
        log = open(FOLDER / f"lane{i}.log", "w")  # noqa: SIM115 - the child's
        argv = [sys.executable, "-m", "bench.blind.lane", *words]
        started.append((subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log), out, log))
    found: list[dict[str, Any]] = []
    try:
        for process, out, log in started:
            code = process.wait()
            log.close()
            if code:
                raise RuntimeError(f"{out.stem} ended with {code}: {Path(log.name).read_text()[-2000:]}")
            found += [json.loads(line) for line in out.read_text().splitlines()]
    finally:
        for process, _, _ in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return found


def told(rows: list[dict[str, Any]], one: str) -> tuple[float, list[tuple[str, float]]]:
    """(AUC of telling `one` from buyers, the features that were used most)."""
    kept = [r for r in rows if r["kind"] in (CUSTOMER, one)]
    names = sorted(kept[0]["x"])
    x = np.array([[r["x"][n] for n in names] for r in kept], dtype=np.float64)
    y = np.array([r["kind"] == one for r in kept], dtype=np.float64)
    found, used = cross_validated(x, y)
    return found, [(names[i], round(float(used[i]), 3)) for i in np.argsort(-used)[:5]]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--circuits", type=int, default=2000, help="buyers and audits together")
    options.add_argument("--lanes", type=int, default=4, help="namespaces with relays of their own, at the same time")
    given = options.parse_args()
    began = time.monotonic()
    rows = gather(given.circuits, given.lanes)
    count = {kind: sum(r["kind"] == kind for r in rows) for kind in (CUSTOMER, AUDIT, PROVE)}
    blind, most = told(rows, AUDIT)
    control, control_most = told(rows, PROVE)
    print(f"{count[CUSTOMER]} buyers, {count[AUDIT]} covert audits: AUC {blind:.3f}, looked at {most}")
    print(f"{count[PROVE]} bandwidth proofs, as the control: AUC {control:.3f}, looked at {control_most}")
    enough = count[CUSTOMER] + count[AUDIT] >= 0.95 * (given.circuits - 2 * given.lanes)
    met = {"blind": blind <= GOAL, "control": control >= CONTROL, "enough": enough}
    result = {"auc": round(blind, 4), "auc_control": round(control, 4), "circuits": count, "met": met,
              "seconds": round(time.monotonic() - began)}  # fmt: skip
    print(json.dumps(result))
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
