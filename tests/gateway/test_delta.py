"""The directory's document: signed, whole or what changed, and kept true by stakes, audits and handshakes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from bwclient import directory
from bwclient.directory import BadDocument, Set
from bwgateway.directory import HEADER, PREFIX
from tests.gateway.rig import Relay, Rig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def relays(rig: Rig) -> list[Relay]:
    found = [Relay(rig).register() for _ in range(3)]
    for i, relay in enumerate(found):
        publish(relay, 3600, i)
    return found


def publish(relay: Relay, ahead: int, place: int) -> None:
    raw = relay.descriptor(ahead=ahead, v4=bytes((198, 18, place, 11)))
    relay.post("/v1/descriptors", {"descriptor": raw.hex()})


def key(rig: Rig) -> bytes:
    return bytes.fromhex(rig.get("/v1/info")["gateway_key"])


def document(rig: Rig, since: int = 0) -> bytes:
    answer = rig.http.get(f"{rig.url}/v1/directory/document?since={since}", timeout=10)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/octet-stream"
    return answer.content


def test_a_client_that_comes_back_gets_what_changed(rig: Rig, relays: list[Relay], tmp_path: Path) -> None:
    whole = document(rig)
    assert len(whole) == HEADER.size + 3 * 297 + 64
    first = Set().apply(whole, key(rig))
    assert set(first.entries) == {r.id for r in relays}
    nothing = document(rig, first.version)
    assert len(nothing) == HEADER.size + 64 and first.apply(nothing, key(rig)) == first
    publish(relays[1], 3700, 1)
    delta = document(rig, first.version)
    assert len(delta) == HEADER.size + 297 + 64
    second = first.apply(delta, key(rig))
    assert second.version == first.version + 1 and second == Set().apply(document(rig), key(rig))
    # The client does the same over a file.
    state = tmp_path / "directory.bin"
    for _ in range(2):
        found = directory.fetch(rig.url, key(rig), state=state)
        assert {d.relay for d in found.relays} == {r.id for r in relays} and not found.refused
        assert found.facts[relays[0].id] == directory.Facts("unaudited", 0, 0, 100)
    assert Set.load(state) == second


def test_what_is_forged_or_does_not_fit_is_refused(rig: Rig, relays: list[Relay], tmp_path: Path) -> None:
    whole, gateway = document(rig), key(rig)
    now = Set().apply(whole, gateway)
    other = SigningKey.generate()

    def resigned(body: bytes) -> bytes:
        return body + other.sign(PREFIX + body).signature

    for forged, words in (
        (whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], "signature"),
        (resigned(whole[:-64]), "signature"),
        (whole[:-65], "signature"),
        (b"", "signature"),
    ):
        with pytest.raises(BadDocument, match=words):
            Set().apply(forged, gateway)
    mine = bytes(other.verify_key)
    for body, words in (
        (whole[:-64][:50], "short"),
        (whole[:-64] + b"x", "size"),
        (whole[: HEADER.size + 297] + whole[HEADER.size + 297 : -64][297:], "size"),
        (whole[: HEADER.size + 10] + b"\1" + whole[HEADER.size + 11 : -64], "not what the gateway has"),
        (whole[:28] + (1).to_bytes(8, "little") + whole[36:-64], "clock"),
    ):
        with pytest.raises(BadDocument, match=words):
            Set().apply(resigned(body), mine)
    with pytest.raises(BadDocument, match="begins at version"):
        Set().apply(document(rig, now.version), gateway)
    # A state that is damaged, of another gateway or ahead of this one's ledger is replaced by the whole.
    state = tmp_path / "directory.bin"
    for version, entries in ((now.version, {}), (now.version + 50, dict(now.entries)), (now.version - 1, {})):
        Set(version, entries).save(state)
        assert len(directory.fetch(rig.url, gateway, state=state).relays) == 3
        assert Set.load(state) == now
    state.write_bytes(b"torn")
    assert len(directory.fetch(rig.url, gateway, state=state).relays) == 3
    with pytest.raises(directory.DirectoryError, match="signature"):
        directory.fetch(rig.url, mine, state=state)


def test_who_leaves_is_removed_by_a_delta(rig: Rig, relays: list[Relay]) -> None:
    before = Set().apply(document(rig), key(rig))
    leaver = Relay(rig).register()
    publish(leaver, 3600, 9)
    here = before.apply(document(rig, before.version), key(rig))
    assert leaver.id in here.entries
    unstake(leaver)
    rig.until(lambda: len(rig.get("/v1/directory")["descriptors"]) == 3, 20, "the leaver unlisted")
    delta = document(rig, here.version)
    assert len(delta) == HEADER.size + 32 + 64
    assert here.apply(delta, key(rig)).entries == before.entries
    words = rig.get(f"/v1/relays?id={relays[0].id.hex()[:6]}")
    assert words["count"] == 1 and words["relays"][0]["class"] == "unaudited"
    assert abs(words["relays"][0]["seen_at"] - time.time()) < 60


def test_expiry_needs_no_delta(rig: Rig, relays: list[Relay]) -> None:
    short = Relay(rig).register()
    publish(short, 4, 8)
    held = Set().apply(document(rig), key(rig))
    assert short.id in held.entries
    time.sleep(5)
    delta = document(rig, held.version)
    assert len(delta) == HEADER.size + 64
    assert short.id not in held.apply(delta, key(rig)).entries


def unstake(relay: Relay) -> None:
    info = relay.rig.get("/v1/info")
    nonce = relay.rig.get(f"/v1/nonces/{relay.owner.address}")["register"]
    deadline = int(time.time()) + 3600
    signature = relay._typed(
        ("bwrouter StakeRegistry", info["contracts"]["registry"], info["chain_id"]),
        "Unstake",
        "bytes32 relayId,uint256 nonce,uint256 deadline",
        [relay.id, nonce, deadline],
    )
    body: dict[str, Any] = {"relay": relay.id.hex(), "deadline": deadline, "sig": signature}
    answer = relay.rig.post("/v1/unstake", body)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("delta")).start()
    try:
        yield rig
    finally:
        rig.stop()
