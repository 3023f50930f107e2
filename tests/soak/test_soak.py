"""`make soak` in its short form: faults for 2.6 minutes, some five with its town, and no breach in its summary.

The town is smaller than that of `make soak`: 6 routers (two of them exits) in the place of 20, 3 buyers in the place of
10, 3 verifiers' machines (six daemons, the least that a committee of three is drawn from) in the place of 4. Two processors
build and carry that within the five minutes that a test may take; the larger town takes them a minute more to build, and an
epoch of audits of 20 routers lasts 150 s. Gateways are three, and every kind of fault comes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.proc import BUILD, ROOT
from tests.soak.faults import VICTIMS

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(420)]
TOWN = {"MINUTES": "2.6", "ROUTERS": "6", "BUYERS": "3", "GATEWAYS": "3", "VERIFIERS": "3", "EVERY": "3.5", "SEED": "1"}
KINDS = {
    "cut", "loss", "jitter", "reorder", "duplicate", "clock", "flash full", "database full", "database restart", "reorg",
    "lying rpc", "silent chain", *(f"kill {victim}" for victim in VICTIMS),
}  # fmt: skip


def left_behind() -> set[str]:
    """Namespaces, file systems and processes of a soak that are there now."""
    found = {f"namespace {path.name}" for path in Path("/run/netns").glob("*")}
    found |= {f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if line.startswith("bwsoak")}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(BUILD / "run") in words or "bwsoak" in words:
            found.add(f"process {words[:200]}")
    return found


def test_a_small_town_holds_under_every_fault() -> None:
    subprocess.run(["make", "-s", "build/soak/line", "build/soak/libclock.so"], cwd=ROOT, check=True)
    before = left_behind()
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak"], cwd=ROOT, env=os.environ | TOWN, stdout=subprocess.PIPE, text=True, timeout=400,
        check=False,
    )  # fmt: skip
    print(done.stdout)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["breaches"] == [] and told["why"] == "" and told["ok"] and done.returncode == 0
    assert set(told["faults"]) >= KINDS, f"not seen: {sorted(KINDS - set(told['faults']))}"
    assert told["audits"] and told["relays_judged"] and told["reveals"], "the verifiers have judged nobody"
    assert told["audit_states"].get("missed", 0) <= told["audits"] // 4
    assert told["paid_units"] > 100 and told["redeemed_units"] > 100 and told["fetched"] > 100
    assert told["double_spends_tried"] > 10 and told["control_sightings"] > 100 and told["looks"] > 20
    assert {"agent", "relay", "gateway", "client", "verifier"} <= set(told["growth"]), "nobody lived long enough to be flat"
    assert told["secrets"] and not told["secrets_in_logs"]
    assert not left_behind() - before
