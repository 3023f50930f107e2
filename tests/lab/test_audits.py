"""The bandwidth proof protocol from end to end: real relays behind real lines, real verifiers, a real chain.

Two routers claim twice what their lines carry and are suspended by two committees that share no seat. One has its line
mended and is acquitted by two good verdicts; the other is slashed when the dispute is over. The honest one is left
alone. A verifier is killed between commit and reveal and loses nothing.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from functools import partial

import pytest
import requests

from bwverifier.duty import ACTIVE, SUSPENDED
from tests.lab.auditing import AUDIT, DISPUTE, AuditedPool, audited
from tests.lab.net import inside, run_in
from tests.lab.proc import Process

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.alone]
CLAIM, LINE_KBPS = 40_000, 20_000
CLAIMS = {"r1": (CLAIM, 60_000), "r2": (CLAIM, 60_000), "r3": (14_000, LINE_KBPS), "dc": (30_000, 200_000)}
VERIFIERS = 6


def ready(process: Process) -> bool:
    return "in the draw" in process.log.read_text()


def widen(pool: AuditedPool, name: str, kbps: int) -> None:
    """The provider gives a home a faster line."""
    argv = ["tc", "qdisc", "change", "dev", f"w-{name}", "root", "tbf", "rate", f"{kbps}kbit"]
    run_in(pool.lab.modems, [*argv, "burst", "16kb", "limit", "128kb"])


def post(pool: AuditedPool, body: dict[str, object]) -> requests.Response:
    with inside(pool.gateway.ns), requests.Session() as session:
        session.trust_env = False
        return session.post(pool.url + "/v1/evidence", json=body, timeout=10)


def test_claims_are_judged_suspended_acquitted_and_slashed() -> None:
    with audited(CLAIMS, 200) as pool:
        ids = {name: bytes.fromhex(router.id) for name, router in pool.routers.items()}
        every = list(ids.values())
        pool.make_verifiers(VERIFIERS, covert=2)
        pool.warp(pool.now() + 2 * AUDIT)
        for i in range(VERIFIERS):
            pool.start_verifier(i)
        for _, _, process in pool.verifiers:
            assert process
            pool.wait("verifier", partial(ready, process), 40, by=process)

        first = pool.epoch(every)
        seen = {name: pool.standing(id) for name, id in ids.items()}
        print({name: (s.reason, s.kbps, s.strikes) for name, s in seen.items()})
        assert [seen[n].reason for n in ("r1", "r2", "r3", "dc")] == [1, 1, 0, 0]
        for name in ("r1", "r2"):
            assert 0.85 * LINE_KBPS < seen[name].kbps < 1.1 * LINE_KBPS and seen[name].strikes == 1

        # One of the verifiers is killed after its commit and started again: it reveals what it committed to.
        second = pool.now() // AUDIT + 1
        pool.warp(second * AUDIT + 1)
        pool.wait("commitments", lambda: all(pool._all(r, second, lambda n: n != 0) for r in every), 60)
        victim = next(i for i, (_, _, p) in enumerate(pool.verifiers) if p and f"epoch {second}: " in p.log.read_text())
        process = pool.verifiers[victim][2]
        assert process
        os.kill(process.pid, signal.SIGKILL)
        process.popen.wait()
        pool.processes.started.remove(process)
        pool.start_verifier(victim)
        pool.epoch_ends(second, every)
        assert pool.staked(ids["r1"])[1] == pool.staked(ids["r2"])[1] == SUSPENDED
        assert pool.staked(ids["r3"])[1] == pool.staked(ids["dc"])[1] == ACTIVE
        pool.wait("unlisted", lambda: len(pool.ask("/v1/directory")["descriptors"]) == 2, 20)
        assert len(pool.ask("/v1/directory/unlisted")["descriptors"]) == 2

        told = pool.ask(f"/v1/audits/{ids['r1'].hex()}")["audits"]
        assert [a["reason"] for a in told] == ["slow", "slow"] and told[0]["strikes"] == 2
        assert told[0]["claimed_kbps"] == CLAIM and told[0]["votes"] == 3
        evidence(pool, ids["r1"], first)

        # The line is mended: two good verdicts in a row lift the suspension. The other one's is not.
        widen(pool, "r1", 60_000)
        for _ in range(2):
            pool.epoch(every)
        assert pool.staked(ids["r1"]) == (CLAIM, ACTIVE)
        assert pool.staked(ids["r2"])[1] == SUSPENDED
        pool.wait("listed again", lambda: len(pool.ask("/v1/directory")["descriptors"]) == 3, 20)

        # The dispute is over: whoever comes first concludes it, the claim falls to what was measured.
        before = stake(pool, ids["r2"])
        pool.warp(pool.now() + DISPUTE)
        pool.wait("the slash", lambda: pool.standing(ids["r2"]).strikes == 0, 30)
        claim, state = pool.staked(ids["r2"])
        assert state == ACTIVE and claim < 1.1 * LINE_KBPS
        assert stake(pool, ids["r2"]) == before * 8 // 10
        report = pool.command(0, "report", "--json", "--most", "50")
        assert report and all(a["why"] and a["measurements"] for a in report)
        covert = [m for i in (0, 1) for a in pool.command(i, "report", "--json", "--most", "50")
                  for m in a["measurements"] if m["kind"] == "covert"]  # fmt: skip
        print(json.dumps(covert))
        assert any("bytes arrived" in m["why"] for m in covert)
        seen_by_owner(pool)


def stake(pool: AuditedPool, relay: bytes) -> int:
    return int(pool.ask(f"/v1/stake/{relay.hex()}")["stake"])


def seen_by_owner(pool: AuditedPool) -> None:
    """The router's own command shows the gateway's signed verdicts."""
    router = pool.routers["r2"]

    def shown() -> list[dict[str, object]]:
        with suppress(Exception):
            env = ["env", *pool.router_env()]
            return list(json.loads(run_in(router.node.ns, [*env, *router.command("verdicts", "--json")])))
        return []

    pool.wait("the owner sees verdicts", lambda: any(v["reason"] == "slow" for v in shown()), 65)
    assert {"epoch", "time", "reason", "kbps", "claimed_kbps", "latency_ms", "loss_bps"} == set(shown()[0])


def evidence(pool: AuditedPool, relay: bytes, epoch: int) -> None:
    """What the committee posted; changed, foreign or old evidence is refused."""
    pool.wait("evidence", lambda: pool.ask(f"/v1/evidence/{relay.hex()}/{epoch}")["evidence"], 30)
    found = pool.ask(f"/v1/evidence/{relay.hex()}/{epoch}")["evidence"]
    one = found[0]
    leaf = {"record": one["record"], "path": one["path"]}
    good = {"verifier": one["verifier"], "epoch": epoch, "root": one["root"], "sig": one["sig"], "records": [leaf]}
    assert post(pool, good).json() == {"stored": 1}  # again: nothing changes
    changed = one["record"].replace('"kbps":', '"kbps":9')
    cases = {
        "path": good | {"records": [leaf | {"record": changed}]},
        "signature": good | {"verifier": "0x" + "11" * 20},
    }
    for code, body in cases.items():
        assert post(pool, body).json()["code"] == code
    assert post(pool, good | {"epoch": epoch + 1}).status_code in (401, 422)
    assert pool.ask(f"/v1/evidence/{relay.hex()}/{epoch}")["evidence"] == found
