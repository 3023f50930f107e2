"""What an exit lets out: the rules as text, and settings that are refused."""

from harness import raises

from bwrouter.agent import policy


def settings(**changes):
    out = {
        "exit_tun": "bwexit0", "wan": "wan0", "workers": "1", "listen_port": 51900, "exit_allow": [],
        "exit_deny": [], "public_v4": "198.18.0.11", "public_v6": "", "lan_prefixes": ["192.168.1.0/24", "2001:2:0:5::/64"],
    }  # fmt: skip
    out.update(changes)
    return out


def test_parse():
    assert policy.parse("192.0.2.0/24", "x") == (b"\xc0\0\2\0", 24, 0)
    assert policy.parse("192.0.2.1", "x") == (b"\xc0\0\2\1", 32, 0)
    assert policy.parse("192.0.2.0/24:443", "x") == (b"\xc0\0\2\0", 24, 443)
    assert policy.parse("2001:db8::/32", "x") == (b"\x20\x01\x0d\xb8" + bytes(12), 32, 0)
    assert policy.parse("[2001:db8::/32]:22", "x") == (b"\x20\x01\x0d\xb8" + bytes(12), 32, 22)
    assert policy.parse("[2001:db8::1]", "x")[1:] == (128, 0)


def test_parse_refuses():
    v4 = ("", "x", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/24:70000", "192.0.2.0/24:x")
    for rule in v4 + ("2001:db8::/129", "[::/0]x"):
        assert "exit_deny" in str(raises(ValueError, policy.parse, rule, "exit_deny")), rule


def test_every_private_range_and_port_25_and_the_home():
    text = policy.ruleset(settings())
    for prefix in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10",
        "224.0.0.0/4", "192.168.1.0/24", "198.18.0.11/32", "::/3", "4000::/2", "8000::/1", "2001:2:0:5::/64",
    ):  # fmt: skip
        assert " " + prefix in text, prefix
    assert "th dport 25 drop" in text
    assert 'oifname != "wan0" drop' in text
    assert 'iifname "bwexit0" drop' in text
    assert "10.213.0.0/16 masquerade" in text and "fd62:7772::/64 masquerade" in text


def test_refusals_stand_before_what_the_owner_allows():
    text = policy.ruleset(settings(exit_allow=["0.0.0.0/0:443"], exit_deny=["203.0.113.0/24"]))
    allow = text.index("th dport 443 accept")
    for words in ("@refused4 drop", "@refused6 drop", "dport 25 drop", "203.0.113.0/24 drop"):
        assert text.index(words) < allow
    assert text[allow:].split("\n")[1] == "    drop"  # and nothing else is allowed then


def test_interface_names_cannot_carry_rules():
    for name in ("", 'x"; accept', "a b", "a\nb", "a;b"):
        assert "exit_tun" in str(raises(ValueError, policy.ruleset, settings(exit_tun=name)))
        assert "wan" in str(raises(ValueError, policy.ruleset, settings(wan=name)))


def test_digest_names_the_rules_whatever_their_order():
    first = policy.digest(settings(exit_deny=["192.0.2.0/24", "203.0.113.0/24"]))
    assert len(first) == 16
    assert first == policy.digest(settings(exit_deny=["203.0.113.0/24", "192.0.2.0/24"]))
    assert first != policy.digest(settings(exit_allow=["192.0.2.0/24", "203.0.113.0/24"]))
    assert first != policy.digest(settings())
