"""What a router with an anchor publishes, shows, and asks of a gateway."""

from harness import raises

from bwrouter.agent import publish, results, status
from bwrouter.agent.reach import Reach
from bwrouter.platform import config, sodium
from bwrouter.wire import descriptor as D

GATEWAY, GATEWAY_SECRET = sodium.ed25519_keypair(b"g" * 32)
PLACE = {"v4": "c6120102", "port": 4003, "relay": "ab" * 32, "error": ""}
NONE = {"v4": "", "port": 0, "relay": "", "error": "anchor abab: no answer"}


class Keys:
    def __init__(self):
        self.relay, self.identity = sodium.ed25519_keypair(b"r" * 32)
        self.static_public, self.obf = b"s" * 32, b"o" * 32


def settings(**more):
    return config.settings(dict({"wan_v4": "100.64.1.2", "workers": "4", "exit": True}, **more))


def test_the_descriptor_names_the_anchor():
    s = settings()
    raises(ValueError, publish.own_descriptor, Keys(), s, 2000)
    d = D.verify_relay_part(publish.own_descriptor(Keys(), s, 2000, ("198.18.1.2", 4003)))
    assert (d.v4, d.port4, any(d.v6), d.port6) == (b"\xc6\x12\x01\x02", 4003, False, 0)
    assert d.anchored and d.exit and d.workers == 1 and d.relay == Keys().relay
    d = D.verify_relay_part(publish.own_descriptor(Keys(), settings(public_v4="198.18.3.3"), 2000))
    assert not d.anchored and d.workers == 4 and d.v4 == b"\xc6\x12\x03\x03"


def test_an_anchor_is_the_last_rung():
    reach = Reach(settings())
    assert reach.alone() and reach.status()["state"] == "none"
    assert reach.anchored(PLACE) and not reach.anchored(PLACE)
    found = reach.status()
    assert (found["state"], found["address"], found["port"], found["anchor"]) == ("anchor", "198.18.1.2", 4003, "ab" * 32)
    assert found["error"] == ""
    words = status._reach(found)
    assert words.startswith("through another router (anchor abababababababab) at 198.18.1.2 port 4003"), words
    assert reach.anchored(NONE)
    found = reach.status()
    assert found["state"] == "none" and found["error"] == "anchor abab: no answer"
    for more in ({"public_v4": "198.18.3.3"}, {"public_v6": "2001:2::3"}):
        reach = Reach(settings(**more))
        reach.anchored(PLACE)
        assert not reach.alone() and reach.status()["state"].startswith("public-") and reach.status()["anchor"] == ""


def offer(n, secret=GATEWAY_SECRET, **more):
    relay, identity = sodium.ed25519_keypair(bytes([n]) * 32)
    fields = dict({"v4": b"\xc6\x12" + bytes([n, 2]), "port4": 51900, "until": 3000}, **more)
    d = D.Descriptor(relay, b"s" * 32, b"o" * 32, **fields)
    return D.endorse(d.sign(identity), GATEWAY, secret).hex()


def test_offers_are_checked():
    own = sodium.ed25519_keypair(bytes([9]) * 32)[0]

    def good(*raws):
        return results.anchors({"descriptors": list(raws)}, own, GATEWAY.hex(), 2000)

    one, two = offer(1), offer(2)
    assert good(one, two) == [one, two] and good() == []
    assert good(offer(3, flags=D.ANCHORED), offer(4, port4=0), offer(5, v4=b"\xc0\xa8\x01\x01"), offer(9), one) == [one]
    assert len(good(*[one] * 30)) == results.OFFERS_MOST
    other = sodium.ed25519_keypair(b"x" * 32)[1]
    for wrong in (offer(1, secret=other), offer(1, until=1000), one[:-2], "zz", 7, None):
        raises(results.Malformed, good, wrong)
        assert good(wrong, one) == [one]
    for answer in ({}, {"descriptors": "x"}):
        raises(results.Malformed, results.anchors, answer, own, GATEWAY.hex(), 2000)
