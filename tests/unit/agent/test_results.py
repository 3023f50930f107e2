"""A gateway's answers on tickets: only what was asked counts, and a redeem only with its receipt."""

from hashlib import sha256

from harness import raises

from bwrouter.agent import results
from bwrouter.platform import sodium

PUBLIC, SECRET = sodium.ed25519_keypair(b"\7" * 32)
GATEWAY, RELAY, ID = PUBLIC.hex(), b"\1" * 32, "0a" * 32
BODY = {"items": [{"id": ID, "index": 9, "preimage": "00" * 32}]}


def receipt(relay=RELAY, id=ID, index=9, units=500, secret=SECRET):
    body = relay + bytes.fromhex(id) + index.to_bytes(2, "little") + units.to_bytes(8, "little") + bytes(8)
    return (body + sodium.ed25519_sign(secret, results.PREFIX + body)).hex()


def redeemed(*rows):
    return results.redeemed({"results": list(rows)}, BODY, RELAY, GATEWAY)


def row(**changes):
    out = {"id": ID, "ok": True, "index": 9, "receipt": receipt()}
    out.update(changes)
    return out


def test_a_right_receipt():
    assert redeemed(row()) == [row()]
    assert results.units(receipt(units=1 << 40)) == 1 << 40 and results.units(None) == 0
    more = row(index=12, receipt=receipt(index=12))
    assert redeemed(more) == [more]  # the gateway knows of more than was asked


def test_a_refusal_needs_no_receipt():
    assert redeemed({"id": ID, "ok": False, "code": "preimage"})[0]["code"] == "preimage"


def test_what_was_not_asked_does_not_count():
    assert redeemed(row(id="0b" * 32)) == []


def test_a_wrong_receipt_is_no_redeem():
    other = sodium.ed25519_keypair(b"\10" * 32)[1]
    for wrong in (
        None, 5, "", "zz", receipt()[:-2], receipt(relay=b"\2" * 32), receipt(id="0b" * 32), receipt(index=8),
        receipt(secret=other), receipt()[:132] + "00" + receipt()[134:],
    ):  # fmt: skip
        raises(results.Malformed, redeemed, row(receipt=wrong))
    for index in (8, None, "9"):
        raises(results.Malformed, redeemed, row(index=index))


def test_malformed_answers():
    rows = ({"id": ID}, {"id": 5, "ok": True}, {"id": ID, "ok": 1}, 5)
    for answer in [{}, {"results": None}] + [{"results": [bad]} for bad in rows]:
        raises(results.Malformed, results.redeemed, answer, BODY, RELAY, GATEWAY)
        raises(results.Malformed, results.opened, answer, {"tickets": []}, RELAY, GATEWAY)


def test_opened():
    anchor = b"\5" * 32
    id = sha256(anchor).digest().hex()
    body = {"tickets": [{"anchor": anchor.hex(), "key": "", "output": "", "units": 64}]}
    answer = {"results": [{"id": id, "ok": True, "units": 64}, {"id": ID, "ok": True, "units": 64}]}
    assert results.opened(answer, body, RELAY, GATEWAY) == answer["results"][:1]
