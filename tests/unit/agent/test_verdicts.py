"""Verdicts that a gateway tells: the signed ones count, in the order in which they came."""

from harness import raises

from bwrouter.agent import verdicts
from bwrouter.platform import http, sodium

PUBLIC, SECRET = sodium.ed25519_keypair(b"\7" * 32)
GATEWAY, RELAY = PUBLIC.hex(), b"\1" * 32


def verdict(epoch, secret=SECRET, **changes):
    out = {
        "relay": RELAY.hex(), "epoch": epoch, "reason": "slow", "kbps": 20000, "latency_ms": None, "loss_bps": 12,
        "reveals": 10, "votes": 9, "strikes": 1, "block": 7, "claimed_kbps": 40000, "time": 1800000000,
    }  # fmt: skip
    out.update(changes)
    text = verdicts.PREFIX + http.canonical(out).encode()
    out["sig"] = sodium.ed25519_sign(secret, text).hex()
    return out


def checked(*found):
    return verdicts.checked({"audits": list(found)}, RELAY, GATEWAY)


def test_the_newest_come_last():
    shown = checked(verdict(9), verdict(8))
    assert [v["epoch"] for v in shown] == [8, 9]
    assert shown[0] == {
        "epoch": 8, "time": 1800000000, "reason": "slow", "kbps": 20000, "claimed_kbps": 40000, "latency_ms": None,
        "loss_bps": 12,
    }  # fmt: skip
    many = checked(*[verdict(100 - i) for i in range(30)])
    assert len(many) == verdicts.MOST and many[-1]["epoch"] == 100


def test_what_the_gateway_has_not_signed_spoils_the_answer():
    other = sodium.ed25519_keypair(b"\x08" * 32)[1]
    changed = verdict(9)
    changed["kbps"] = 1
    for bad in (
        changed, verdict(9, secret=other), verdict(9, relay="22" * 32), verdict(9, kbps="1"), verdict(9, reason=1),
        verdict(9, time=None), {"epoch": 1}, {"sig": "zz"}, 7,
    ):  # fmt: skip
        raises(verdicts.Malformed, checked, verdict(10), bad)
    raises(verdicts.Malformed, verdicts.checked, {}, RELAY, GATEWAY)
