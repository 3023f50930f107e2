"""The directory takes what is signed, staked and public, and nothing else."""

from __future__ import annotations

import time

import pytest
import requests
from nacl.signing import VerifyKey

from bwrouter.wire.descriptor import ANCHORED
from tests.gateway.rig import Relay, Rig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def relay(rig: Rig) -> Relay:
    return Relay(rig).register()


def publish(relay: Relay, raw: bytes) -> requests.Response:
    return relay.rig.post("/v1/descriptors", relay.sign("/v1/descriptors", {"descriptor": raw.hex()}))


def test_published_and_listed(rig: Rig, relay: Relay) -> None:
    before = rig.get("/v1/directory")["version"]
    raw = relay.descriptor()
    answer = publish(relay, raw)
    assert answer.status_code == 200, answer.text
    full = bytes.fromhex(answer.json()["descriptor"])
    assert len(full) == 286 and full[:213] == raw and full[213] == 0
    gateway = VerifyKey(bytes.fromhex(rig.get("/v1/info")["gateway_key"]))
    gateway.verify(full[:222], full[222:])
    listing = rig.get("/v1/directory")
    assert listing["version"] == before + 1 and listing["descriptors"] == [full.hex()]
    older = publish(relay, relay.descriptor(ahead=1800))
    assert (older.status_code, older.json()["code"]) == (409, "stale")
    assert rig.get("/v1/directory") == listing


def test_anchors_are_drawn_among_those_with_an_address_of_their_own(rig: Rig, relay: Relay) -> None:
    hidden = Relay(rig).register()
    v4 = bytes((198, 18, 0, 11))
    answer = publish(hidden, hidden.descriptor(flags=ANCHORED | 1 << 4))
    assert answer.status_code == 422 and "one worker" in answer.text
    assert publish(relay, relay.descriptor(ahead=3650)).status_code == 200
    assert publish(hidden, hidden.descriptor(flags=ANCHORED, v4=v4)).status_code == 200
    listed = {bytes.fromhex(raw)[1:33] for raw in rig.get("/v1/directory")["descriptors"]}
    assert {relay.id, hidden.id} <= listed
    offered = [bytes.fromhex(raw)[1:33] for raw in rig.get("/v1/anchors")["descriptors"]]
    assert relay.id in offered and hidden.id not in offered and len(offered) == len(set(offered)) <= 8


def test_refused_descriptors(rig: Rig, relay: Relay) -> None:
    good = relay.descriptor(ahead=3700)
    other = Relay(rig)
    cases = {
        "private": (relay.descriptor(v4=bytes((192, 168, 1, 1))), "descriptor"),
        "loopback": (relay.descriptor(v4=bytes((127, 0, 0, 1))), "descriptor"),
        "cgnat": (relay.descriptor(v4=bytes((100, 64, 0, 1))), "descriptor"),
        "forged": (good[:-1] + bytes([good[-1] ^ 1]), "descriptor"),
        "changed": (good[:100] + b"\1" + good[101:], "descriptor"),
        "version": (b"\2" + good[1:], "descriptor"),
        "expired": (relay.descriptor(ahead=-1), "expiry"),
        "too long": (relay.descriptor(ahead=90_000), "expiry"),
        "region": (relay.descriptor(region=2), "region"),
        "another's": (other.descriptor(), "relay"),
    }
    before = rig.get("/v1/directory")
    for name, (raw, code) in cases.items():
        answer = publish(relay, raw)
        assert answer.status_code in (403, 422) and answer.json()["code"] == code, (name, answer.text)
    relay.rate_kbps += 1
    answer = publish(relay, relay.descriptor(ahead=3700))
    relay.rate_kbps -= 1
    assert (answer.status_code, answer.json()["code"]) == (422, "rate")
    unstaked = publish(other, other.descriptor())
    assert (unstaked.status_code, unstaked.json()["code"]) == (403, "unregistered")
    assert rig.get("/v1/directory") == before


def test_registration_is_checked_by_the_contract(rig: Rig) -> None:
    relay = Relay(rig)
    rig.fund(relay.owner.address, 100)
    good = relay.registration()
    for change, word in (
        ({"rate_kbps": 50_000}, "WrongSigner"),
        ({"stake": str(10**18)}, "StakeTooSmall"),
        ({"deadline": int(time.time()) - 10}, "Expired"),
        ({"payout": "0x" + "00" * 20}, "ZeroAddress"),
    ):
        answer = rig.post("/v1/register", {**good, **change})
        assert answer.status_code == 422 and word in answer.json()["detail"], answer.text
    assert rig.get(f"/v1/stake/{relay.id.hex()}")["state"] == "none"
    first, again = rig.post("/v1/register", good), rig.post("/v1/register", good)
    assert first.status_code == again.status_code == 200 and first.json()["tx"] == again.json()["tx"]
    rig.until(lambda: rig.get(f"/v1/stake/{relay.id.hex()}")["state"] == "active", 10, "registration")
    entry = rig.get(f"/v1/stake/{relay.id.hex()}")
    assert (entry["payout"], entry["stake"], entry["rate_kbps"]) == (relay.payout, str(100 * 10**18), 40_000)


def test_problem_documents_and_service_routes(rig: Rig) -> None:
    for path, status, code in (("/nowhere", 404, "not-found"), ("/v1/issue", 405, "method")):
        answer = rig.http.get(rig.url + path, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
    answer = rig.post("/v1/open", {"relay": "zz"})
    assert answer.status_code == 422 and answer.json()["field"] == "relay"
    huge = rig.http.post(rig.url + "/v1/open", data=b"x" * (2 * 1024 * 1024 + 1), timeout=10)
    assert (huge.status_code, huge.json()["code"]) == (413, "size")
    text = rig.http.get(rig.url + "/metrics", timeout=10).text
    assert 'bwgateway_request_seconds_count{route="/v1/directory",status="200"}' in text
    assert rig.get("/healthz")["ok"] is True


def test_command_line(rig: Rig) -> None:
    import json
    import subprocess

    run = subprocess.run(
        rig.command("status", "--json"), env=rig.environment, capture_output=True, text=True, check=True
    )
    told = json.loads(run.stdout)
    assert told["health"]["ok"] and told["gateway_key"] == rig.get("/v1/info")["gateway_key"]
    run = subprocess.run(rig.command("keys", "--json"), env=rig.environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["operator"] == rig.get("/v1/info")["account"]
    who = Relay(rig).owner.address
    subprocess.run(rig.command("fund", who, "--bwt", "3", "--coin", "2"), env=rig.environment, check=True)
    assert int(rig.treasury().rpc("eth_getBalance", who, "latest"), 16) == 2 * 10**18
