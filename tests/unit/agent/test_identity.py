"""Keys, signed requests, the registration's signatures and the descriptor."""

import json
import os

from harness import raises

from bwrouter.agent import gateways, keys, publish, registration, signed
from bwrouter.ledger import eip712
from bwrouter.platform import files, http, sodium
from bwrouter.wire import descriptor

BASE = __file__[: __file__.rfind("/tests/")] + "/build/tmp/unit-keys"
SETTINGS = {
    "region": 3, "rate_kbps": 20000, "stake_wei": "100000000000000000000", "payout": "", "listen_port": 51900, "workers": "1",
    "public_v4": "198.18.0.11", "public_v6": "", "exit": False, "exit_allow": [], "exit_deny": [],
}  # fmt: skip
REGISTRY, TOKEN = b"\x11" * 20, b"\x22" * 20
INFO = {"chain_id": 31337, "contracts": {"registry": "0x" + REGISTRY.hex(), "token": "0x" + TOKEN.hex()}}


def fresh(name):
    files.make_dirs(BASE + name)
    for file in os.listdir(BASE + name):
        os.remove(BASE + name + "/" + file)
    return BASE + name


def with_(**changes):
    out = dict(SETTINGS)
    out.update(changes)
    return out


def known():
    return keys.Keys(b"\1" * 32, b"\2" * 32, b"\3" * 32, bytes(31) + b"\1")


def test_keys_are_made_once_and_private():
    folder = fresh("made")
    assert sorted(keys.make(folder)) == ["identity", "obf", "static", "wallet"]
    first = keys.load(folder).public()
    assert keys.make(folder) == [] and keys.load(folder).public() == first
    for name in keys.NAMES:
        assert os.stat(keys.path(folder, name))[0] & 0o777 == 0o600
    os.remove(keys.path(folder, "obf"))
    assert keys.make(folder) == ["obf"] and keys.load(folder).public() == first


def test_a_damaged_or_missing_key_file_is_named():
    folder = fresh("damaged")
    assert "identity.key" in str(raises(OSError, keys.load, folder))
    keys.make(folder)
    for text in (b"", b"ab", b"zz" * 32, b"ab" * 33):
        files.write_atomic(keys.path(folder, "wallet"), text)
        assert "wallet.key" in str(raises(OSError, keys.load, folder))


def test_public_parts():
    k = known()
    assert k.address.hex() == "7e5f4552091a69125d5dfcb7b8c2659029395bdf"  # of private key 1
    assert k.relay == sodium.ed25519_keypair(b"\1" * 32)[0]


def test_signed_request():
    k = known()
    text = signed.request("/v1/open", {"tickets": [{"b": 1, "a": "x"}]}, k, 1780000000)
    body = json.loads(text)
    assert (body["relay"], body["time"], len(body["nonce"])) == (k.relay.hex(), 1780000000, 32)
    signature = bytes.fromhex(body.pop("sig"))
    message = "bwrouter/1 /v1/open\n" + http.canonical(body)
    assert sodium.ed25519_verify(k.relay, message.encode(), signature)
    assert not sodium.ed25519_verify(k.relay, message.replace("open", "redeem").encode(), signature)
    assert json.loads(signed.request("/v1/open", {}, k, 1))["nonce"] != body["nonce"]


def test_registration():
    k = known()
    body = registration.register(k, SETTINGS, INFO, {"register": 4, "permit": 2}, 1780000000)
    assert body["owner"] == body["payout"] == "0x" + k.address.hex() and body["stake"] == "1" + "0" * 20
    values = {
        "relayId": k.relay, "owner": k.address, "payout": k.address, "region": 3, "rateKbps": 20000, "stake": 10**20,
        "nonce": 4, "deadline": body["deadline"],
    }  # fmt: skip
    expected = registration.sign(registration.REGISTRY, registration.REGISTER, values, k, 31337, REGISTRY)
    assert body["sig"] == expected.hex() and body["deadline"] == 1780000000 + registration.DEADLINE_S
    permit = {"owner": k.address, "spender": REGISTRY, "value": 10**20, "nonce": 2, "deadline": body["deadline"]}
    assert body["permit_sig"] == registration.sign(registration.BWT, eip712.PERMIT, permit, k, 31337, TOKEN).hex()
    other = registration.register(k, with_(payout="0x" + "ab" * 20), INFO, {"register": 4, "permit": 2}, 1780000000)
    assert other["payout"] == "0x" + "ab" * 20 and other["sig"] != body["sig"]


def test_malformed_addresses_are_named():
    for text in ("", "0x", "ab" * 20, "0x" + "ab" * 19, "0x" + "zz" * 20):
        assert "thing" in str(raises(ValueError, registration.address_bytes, text, "thing"))


def test_descriptor():
    k = known()
    part = publish.own_descriptor(k, SETTINGS, 1780000000)
    d = descriptor.verify_relay_part(part)
    assert len(part) == 213 and d.relay == k.relay and d.static == k.static_public and d.obf == k.obf
    assert (d.v4, d.port4, d.port6, d.region, d.rate, d.until, d.flags) == (
        b"\xc6\x12\x00\x0b", 51900, 0, 3, 20000, 1780000000, 0,
    )  # fmt: skip
    d = descriptor.verify_relay_part(publish.own_descriptor(k, with_(exit=True, public_v6="2001:2::5"), 1780000000))
    assert d.exit and d.port6 == 51900 and d.policy != bytes(16)


def test_descriptor_without_a_right_address():
    k = known()
    for changes in ({"public_v4": ""}, {"public_v4": "2001:2::5"}, {"public_v6": "1.2.3.4"}, {"public_v4": "x"}):
        raises(ValueError, publish.own_descriptor, k, with_(**changes), 1780000000)


def test_gateway_settings():
    good = {"url": "http://198.18.0.2:8080", "key": "ab" * 32}
    gateways.check({"gateways": [good, dict(good, url="https://g.example/")]})
    for entry in (
        {}, "x", dict(good, key="ab"), dict(good, key="AB" * 32), dict(good, url="ftp://x"), dict(good, url=5),
        dict(good, key=None),
    ):  # fmt: skip
        assert "gateways" in str(raises(ValueError, gateways.check, {"gateways": [good, entry]})), entry


def test_a_refusal_carries_its_code():
    error = gateways.Refused(422, {"code": "reverted", "detail": "no BWT"})
    assert (error.status, error.code, str(error)) == (422, "reverted", "reverted: no BWT")
    assert gateways.Refused(404, None).code == "http-404"
