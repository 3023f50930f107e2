"""The agent on MicroPython against a real gateway and chain; only the relay is played by the test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from nacl.public import PrivateKey
from nacl.signing import VerifyKey

from bwclient.tickets import Ticket
from bwclient.wallet import Wallet
from bwrouter.wire import descriptor, proof
from tests.agent.parts import ROOT, AgentProcess, GatewayProcess, RelayPeer, free_port, until

pytestmark = pytest.mark.slow  # a chain of its own, about a minute
UNITS = 64
UNIT_WEI = 10**18 // 16_384


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = ROOT / "build/tmp" / f"agent-{os.getpid()}"  # unix sockets want a short path
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[GatewayProcess]:
    found = GatewayProcess(folder / "g")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def wallet(folder: Path, gateway: GatewayProcess) -> Wallet:
    key = os.urandom(32)
    buyer = Wallet(key, gateway.url, gateway.rpc, folder / "buyer", bytes.fromhex(gateway.key))
    gateway.fund(buyer.address, 100, 1)
    return buyer


@pytest.fixture(scope="module")
def agent(folder: Path, gateway: GatewayProcess) -> Iterator[AgentProcess]:
    """Registered and published; its first gateway in the list never answers."""
    dead = {"url": f"http://127.0.0.1:{free_port()}", "key": "ee" * 32}
    found = AgentProcess(folder / "a", [dead, {"url": gateway.url + "/", "key": gateway.key}])
    assert found.cli("keys", "init").returncode == 0
    gateway.fund(json.loads(found.cli("keys", "show", "--json").stdout)["wallet"], 50)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def relay(agent: AgentProcess) -> Iterator[RelayPeer]:
    peer = RelayPeer(agent)
    yield peer
    peer.close()


def open_message(ticket: Ticket) -> dict[str, Any]:
    return {
        "t": "open",
        "id": ticket.id.hex(),
        "key": ticket.key_id.hex(),
        "anchor": ticket.anchor.hex(),
        "output": ticket.output.hex(),
        "units": ticket.units,
    }


def meter(ticket: Ticket, index: int, final: bool = False) -> dict[str, Any]:
    word = ticket.preimage(index).hex()
    return {"t": "meter", "id": ticket.id.hex(), "index": index, "preimage": word, "final": final}


def relay_id(agent: AgentProcess) -> str:
    return str(agent.status()["relay_id"])


def redeemed_units(gateway: GatewayProcess, agent: AgentProcess) -> int:
    return int(gateway.get("/v1/earnings/" + relay_id(agent))["units"])


def test_it_stakes_and_publishes_itself(gateway: GatewayProcess, agent: AgentProcess, relay: RelayPeer) -> None:
    relay.hello(False)
    hello = relay.expect("hello")
    until("descriptor", lambda: [g for g in agent.status().get("gateways", []) if g["published_until"]], 40)
    status = agent.status()
    stake = gateway.get("/v1/stake/" + status["relay_id"])
    assert (stake["state"], stake["stake"]) == ("active", str(20 * 10**18))
    assert (stake["region"], stake["rate_kbps"]) == (1, 20000)
    assert stake["owner"].lower() == stake["payout"].lower() == status["wallet"]
    assert status["stake"]["error"] == "" and [g["ok"] for g in status["gateways"]] == [False, True]
    published = [bytes.fromhex(d) for d in gateway.get("/v1/directory")["descriptors"]]
    assert len(published) == 1
    d = descriptor.verify(published[0], [bytes.fromhex(gateway.key)], int(time.time()))
    assert d.relay.hex() == status["relay_id"] and (d.port4, d.region, d.rate, d.exit) == (51900, 1, 20000, False)
    # The relay has the secrets behind what is published, and no other.
    assert bytes(PrivateKey(bytes.fromhex(hello["static"])).public_key) == d.static and hello["obf"] == d.obf.hex()
    text = json.dumps(hello)
    for name in ("identity", "wallet"):
        assert (agent.state_dir / f"{name}.key").read_text().strip() not in text
    assert hello["gateway_keys"] == ["ee" * 32, gateway.key]
    assert "published" in agent.cli("status").stdout


def test_it_opens_and_redeems(
    gateway: GatewayProcess, agent: AgentProcess, relay: RelayPeer, wallet: Wallet
) -> None:
    relay.hello(True)
    before = redeemed_units(gateway, agent)
    (ticket,) = wallet.buy(1, UNITS, 1)
    ask = open_message(ticket)
    relay.tell(ask)
    assert relay.expect("opened", id=ask["id"]) == {"t": "opened", "id": ask["id"], "ok": True, "units": UNITS}
    forged = {**ask, "output": "00" * 64, "anchor": "11" * 32, "id": sha256(b"\x11" * 32).hexdigest()}
    relay.tell(forged)
    assert relay.expect("opened", id=forged["id"])["code"] == "forged"
    relay.tell(meter(ticket, 10))
    relay.expect("redeemed", id=ask["id"], index=10)
    relay.tell(meter(ticket, 23, True))
    relay.expect("redeemed", id=ask["id"], index=23)
    relay.tell(meter(ticket, 23, True))  # the answer got lost: it is given again
    until("second answer", lambda: relay.pump() or len(relay.of("redeemed", id=ask["id"], index=23)) > 1)
    assert redeemed_units(gateway, agent) - before == 23
    until("status", lambda: agent.status()["tickets"]["redeemed_units"] >= 23)
    # A wrong preimage is refused, told, and not asked again.
    (ticket,) = wallet.buy(1, UNITS, 1)
    relay.tell(open_message(ticket))
    relay.expect("opened", id=ticket.id.hex(), ok=True)
    relay.tell({**meter(ticket, 5, True), "preimage": "77" * 32})
    assert relay.expect("redeemed", id=ticket.id.hex())["code"] == "preimage"
    assert redeemed_units(gateway, agent) - before == 23


def test_it_signs_what_a_bandwidth_proof_has_sent(agent: AgentProcess, relay: RelayPeer) -> None:
    relay.hello(True)
    until("status", lambda: agent.status().get("relay_id"))
    statement = proof.pack_statement(300, bytes(16), 7, 9, 0, 0, 8, 1000, int(time.time()))
    for other in (b"", bytes(44), statement + b"x"):  # its identity signs nothing else
        relay.tell({"t": "prove", "statement": other.hex()})
    relay.tell({"t": "prove", "statement": statement.hex()})
    answer = relay.expect("proved")
    assert answer["statement"] == statement.hex() and len(relay.of("proved")) == 1
    close = statement + bytes.fromhex(answer["signature"])
    assert proof.verify(bytes.fromhex(relay_id(agent)), close)[2] == 7


def test_the_receipt_that_it_keeps_holds(gateway: GatewayProcess, agent: AgentProcess) -> None:
    book = until("tickets.json", lambda: json.loads((agent.run_dir / "tickets.json").read_text()))
    receipt = bytes.fromhex(book["receipts"][gateway.key])
    VerifyKey(bytes.fromhex(gateway.key)).verify(b"bwrouter/1 receipt\n" + receipt[:-64], receipt[-64:])
    assert receipt[:32].hex() == relay_id(agent)
    assert int.from_bytes(receipt[66:74], "little") == redeemed_units(gateway, agent)


@pytest.mark.alone
def test_a_slow_gateway_holds_up_no_rate(
    gateway: GatewayProcess, agent: AgentProcess, relay: RelayPeer, wallet: Wallet
) -> None:
    relay.hello(True)
    (ticket,) = wallet.buy(1, UNITS, 1)
    gateway.freeze()
    try:
        relay.tell(open_message(ticket))
        relay.pump(0.5)
        relay.messages.clear()
        for turn in range(8):  # a relay that is busy
            relay.tell({"t": "sent", "bytes": turn, "packets": 0, "reflex": True, "blind": "", "queued": 1})
            relay.pump(0.5)
        times = [t for t, m in relay.messages if m["t"] == "rate"]
        assert not relay.of("opened")
    finally:
        gateway.thaw()
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert 18 <= len(times) <= 22 and max(gaps) < 1.0, (len(times), max(gaps))
    relay.expect("opened", 30, id=ticket.id.hex(), ok=True)


def test_killed_with_readings_that_no_gateway_has(
    gateway: GatewayProcess, agent: AgentProcess, relay: RelayPeer, wallet: Wallet
) -> None:
    relay.hello(True)
    before = redeemed_units(gateway, agent)
    (ticket,) = wallet.buy(1, UNITS, 1)
    id = ticket.id.hex()
    relay.tell(open_message(ticket))
    relay.expect("opened", id=id, ok=True)
    gateway.freeze()
    try:
        relay.tell(meter(ticket, 31))
        journal = agent.run_dir / "tickets.json"
        until("journal", lambda: json.loads(journal.read_text())["tickets"].get(id, [0, 0, 0])[2] == 31)
        worker = agent.children()
        agent.kill()
        until("the worker's end", lambda: not any(Path(f"/proc/{p}").exists() for p in worker))
    finally:
        gateway.thaw()
    agent.start()
    until("redeem", lambda: redeemed_units(gateway, agent) - before == 31, 30)


def test_the_worker_killed(gateway: GatewayProcess, agent: AgentProcess, relay: RelayPeer, wallet: Wallet) -> None:
    relay.hello(True)
    (ticket,) = wallet.buy(1, UNITS, 1)
    (worker,) = agent.children()
    os.kill(worker, signal.SIGKILL)
    relay.tell(open_message(ticket))
    relay.expect("opened", 20, id=ticket.id.hex(), ok=True)
    assert agent.children() != [worker]


def test_earnings_reach_the_wallet(gateway: GatewayProcess, agent: AgentProcess) -> None:
    units = redeemed_units(gateway, agent)
    assert units >= 54

    def claimed() -> bool:
        earned = gateway.get("/v1/earnings/" + relay_id(agent))
        return int(earned["claimed_wei"]) == int(earned["cumulative_wei"]) == int(earned["balance_wei"]) > 0

    until("claim", claimed, 40)
    earned = gateway.get("/v1/earnings/" + relay_id(agent))
    assert int(earned["cumulative_wei"]) == units * UNIT_WEI * 9 // 10
    assert earned["payout"].lower() == agent.status()["wallet"]


def test_it_proves_stake_and_earnings_itself(gateway: GatewayProcess, agent: AgentProcess) -> None:
    id = relay_id(agent)
    earned = gateway.get("/v1/earnings/" + id)

    def proved() -> dict[str, Any] | None:
        found = agent.status().get("proved")
        good = found and found["final"] and int(found["cumulative_wei"]) == int(earned["cumulative_wei"])
        return found if good else None

    found = until("proof", proved, 60)
    assert agent.status()["proof_error"] == ""
    assert (found["state"], found["stake"]) == ("active", str(20 * 10**18))
    assert found["claimed_wei"] == earned["claimed_wei"]


def test_the_owner_asks(gateway: GatewayProcess, agent: AgentProcess) -> None:
    run = agent.cli("earnings", "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["proof_error"] == "" and said["units"] == redeemed_units(gateway, agent)
    assert "proof     holds" in agent.cli("earnings").stdout
    claim = json.loads(agent.cli("claim", "--json").stdout)
    assert (claim["due_wei"], claim["claimed_wei"]) == ("0", said["claimed_wei"]) and "data" not in claim
    refused = agent.cli("unstake")
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert json.loads(agent.cli("stake", "--json").stdout)["state"] == "active"
    refused = agent.cli("stake", "--yes")
    assert refused.returncode == 1 and "there is a stake already: it is active" in refused.stderr


def test_the_owner_stakes_without_the_agent(folder: Path, gateway: GatewayProcess) -> None:
    other = AgentProcess(folder / "d", [{"url": gateway.url, "key": gateway.key}])
    wallet = json.loads(other.cli("keys", "init", "--json").stdout)["wallet"]
    assert "none; stake_wei is 20000000000000000000" in other.cli("stake").stdout
    gateway.fund(wallet, 20)
    sent = other.cli("stake", "--yes", "--json")
    assert sent.returncode == 0 and json.loads(sent.stdout)["tx"], sent.stderr
    until("stake", lambda: json.loads(other.cli("stake", "--json").stdout)["state"] == "active")


def test_changed_settings_reach_the_chain(gateway: GatewayProcess, agent: AgentProcess) -> None:
    payout = "0x" + "ab" * 20
    assert agent.stop() == 0
    agent.config.write_text(json.dumps({**agent.settings, "payout": payout, "rate_kbps": 15000}))
    agent.start()

    def changed() -> bool:
        stake = gateway.get("/v1/stake/" + relay_id(agent)) if agent.status() else {}
        return bool(stake) and (stake["payout"].lower(), stake["rate_kbps"]) == (payout, 15000)

    until("payout and rate on chain", changed, 60)
    agent.stop()
    agent.config.write_text(json.dumps(agent.settings))
    agent.start()


def test_sigterm_leaves_nothing(agent: AgentProcess) -> None:
    children = agent.children()
    assert agent.stop() == 0
    assert not any(Path(f"/proc/{p}").exists() for p in children)
    assert sorted(p.name for p in agent.run_dir.iterdir()) == ["earned.json", "tickets.json"]
    agent.start()


def test_a_gateway_with_another_key_is_refused(folder: Path, gateway: GatewayProcess) -> None:
    other = AgentProcess(folder / "b", [{"url": gateway.url, "key": "ab" * 32}])
    other.start()
    try:
        found = until("error", lambda: [g for g in other.status().get("gateways", []) if "another key" in g["error"]])
        assert found[0]["published_until"] == 0 and other.status()["stake"]["chain"] is None
    finally:
        assert other.stop() == 0


def test_without_bwt_it_says_so(folder: Path, gateway: GatewayProcess) -> None:
    poor = AgentProcess(folder / "c", [{"url": gateway.url, "key": gateway.key}])
    poor.start()
    try:
        until("stake error", lambda: "reverted" in poor.status().get("stake", {}).get("error", ""))
        assert gateway.get("/v1/stake/" + relay_id(poor))["state"] == "none"
        assert not [g for g in poor.status()["gateways"] if g["published_until"]]
    finally:
        assert poor.stop() == 0


def test_unstake(gateway: GatewayProcess, agent: AgentProcess) -> None:
    run = agent.cli("unstake", "--yes", "--json")
    assert run.returncode == 0, run.stderr
    id = json.loads(agent.cli("keys", "show", "--json").stdout)["relay"]
    until("notice", lambda: gateway.get("/v1/stake/" + id)["state"] == "unbonding")
    again = agent.cli("unstake", "--yes")
    assert again.returncode == 1 and "unbonding" in again.stderr
