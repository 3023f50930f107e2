"""What an exit lets out: nftables rules as text, and their digest. Pure: nothing is applied here.

The relay refuses the same by itself (relay/rules.py); these rules stand behind it.
"""

import hashlib
import struct

from ..platform import config, net
from ..wire import address
from ..wire import sizes as S

TABLE = "bwrouter_exit"
SMTP = 25
parse = net.cidr_port


def tun(settings, worker):
    """Name of the TUN device of relay process `worker`."""
    return settings["exit_tun"] + ("-%d" % worker if worker else "")


def own_addresses(worker, workers):
    """The exit's own inner addresses on the TUN of a relay process, CIDR: (IPv4, IPv6)."""
    number, spare = (0, 16) if workers == 1 else (worker * S.INNER_RANGE, 12)
    low = struct.pack(">H", number + 1)
    bits6 = 64 if workers == 1 else 128 - spare
    return (
        net.ip_text(S.INNER_V4 + low) + "/%d" % (32 - spare),
        net.ip_text(S.INNER_V6 + bytes(14 - len(S.INNER_V6)) + low) + "/%d" % bits6,
    )


def digest(settings):
    """16 bytes that name the policy in a descriptor: SHA-256 over the owner's sorted rules."""
    lines = ["allow " + rule for rule in settings["exit_allow"]] + ["deny " + rule for rule in settings["exit_deny"]]
    return hashlib.sha256(("bwrouter/1 policy\n" + "\n".join(sorted(lines))).encode()).digest()[:16]


def ruleset(settings):
    """The whole nftables table for `nft -f`: replaces an earlier one in a single transaction. Raises ValueError."""
    wan = settings["wan"]
    for name, value in (("exit_tun", settings["exit_tun"]), ("wan", wan)):
        if not value or not all([c.isalpha() or c.isdigit() or c in "._-@" for c in value]):
            raise ValueError("setting %s: %r is no interface name" % (name, value))
    v4, v6 = _refused(settings)
    tuns = ['"%s"' % tun(settings, worker) for worker in range(config.workers(settings))]
    tuns = "{ %s }" % ", ".join(tuns) if len(tuns) > 1 else tuns[0]
    lines = [
        "table inet " + TABLE + " {}",
        "delete table inet " + TABLE,
        "table inet " + TABLE + " {",
        _set("refused4", "ipv4_addr", v4),
        _set("refused6", "ipv6_addr", v6),
        "  chain input {",
        "    type filter hook input priority -10; policy accept;",
        "    iifname %s drop" % tuns,  # a buyer has no business with the router itself
        "  }",
        "  chain forward {",
        "    type filter hook forward priority -10; policy accept;",
        "    iifname %s goto leave" % tuns,
        "    oifname %s ct state established,related accept" % tuns,
        "    oifname %s drop" % tuns,
        "  }",
        "  chain leave {",
        '    oifname != "%s" drop' % wan,
        "    ct state invalid drop",
        "    meta nfproto ipv4 ip saddr != %s drop" % prefix4(),
        "    meta nfproto ipv6 ip6 saddr != %s drop" % prefix6(),
        "    ip daddr @refused4 drop",
        "    ip6 daddr @refused6 drop",
        "    meta l4proto { tcp, udp, sctp, udplite } th dport %d drop" % SMTP,
    ]
    lines += ["    %s drop" % _match(*parse(rule, "exit_deny")) for rule in settings["exit_deny"]]
    lines += ["    %s accept" % _match(*parse(rule, "exit_allow")) for rule in settings["exit_allow"]]
    lines.append("    drop" if settings["exit_allow"] else "    accept")
    lines += [
        "  }",
        "  chain postrouting {",
        "    type nat hook postrouting priority srcnat; policy accept;",
        '    oifname "%s" ip saddr %s masquerade' % (wan, prefix4()),
        '    oifname "%s" ip6 saddr %s masquerade' % (wan, prefix6()),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def prefix4():
    """Inner IPv4 addresses of an exit's buyers, CIDR."""
    return net.ip_text(S.INNER_V4 + bytes(2)) + "/16"


def prefix6():
    """Inner IPv6 addresses of an exit's buyers, CIDR."""
    return net.ip_text(S.INNER_V6 + bytes(16 - len(S.INNER_V6))) + "/64"


def _refused(settings):
    """CIDRs never let out, as two lists of text: the relay's own lists and this router's prefixes and addresses."""
    own = [parse(rule, "lan_prefixes")[:2] for rule in settings["lan_prefixes"]]
    for name in ("public_v4", "public_v6"):
        if settings[name]:
            raw = net.ip_bytes(settings[name])
            own.append((raw, 8 * len(raw)))
    every = list(address.REFUSED_V4) + list(address.REFUSED_V6) + own
    text = [(len(raw), net.ip_text(_masked(raw, bits)) + "/%d" % bits) for raw, bits in every]
    return [t for size, t in text if size == 4], [t for size, t in text if size == 16]


def _masked(raw, bits):
    """`raw` with all but its first `bits` bits cleared: nft wants a prefix's own address."""
    number = int.from_bytes(raw, "big")
    spare = 8 * len(raw) - bits
    return (number >> spare << spare).to_bytes(len(raw), "big")


def _set(name, kind, elements):
    # auto-merge: the home's prefixes may lie inside refused ones.
    return "  set %s { type %s; flags interval; auto-merge; elements = { %s } }" % (name, kind, ", ".join(elements))


def _match(raw, bits, port):
    words = "%s daddr %s/%d" % ("ip" if len(raw) == 4 else "ip6", net.ip_text(_masked(raw, bits)), bits)
    return words + (" meta l4proto { tcp, udp } th dport %d" % port if port else "")
