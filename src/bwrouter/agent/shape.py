"""The traffic control plan: household first, the relay in what is left. Pure: text and numbers, nothing is applied.

One plan, two executors (platform/tc.py). HTB: a root of the line's rate, the household at prio 0 with all of it, the
relay at prio 7 with next to nothing of its own and at most its cap; told apart by LE (RFC 8622) in the DSCP field, or
by the relay's port where the owner wants no marks. Handles are ours (b3:), so that ours is known from somebody else's.
"""

HANDLE = 0xB3
HOUSEHOLD, RELAY = 0x10, 0x20
RELAY_KBPS = 8
LEAF_MS = 100  # of the line: the most that waits in a leaf of a kernel without fq_codel, where it would be 1000 packets
LEAF_LEAST = 16  # packets, or TCP cannot fill a slow line
LINE_PERMILLE = 997  # of the uplink: the queue must stand here and not in the modem; the household pays the rest
MTU = 1514
LE4 = (0x00040000, 0x00FC0000, 0)  # value, mask, offset of the word: DSCP 1 in the IPv4 header
LE6 = (0x00400000, 0x0FC00000, 0)  # and in IPv6's traffic class
UDP = 17


class Op:
    """One step: `kind` qdisc, class or filter; `name` the discipline; `optional`: a kernel without it is fine."""

    def __init__(self, kind, name, parent, handle, optional=False, **options):
        self.kind, self.name, self.parent, self.handle = kind, name, parent, handle
        self.optional, self.options = optional, options


def plan(line_kbps, cap_kbps, port=0):
    """The steps for a line of `line_kbps` and a relay of at most `cap_kbps`; `port` 0: by LE marks."""
    ops = [Op("qdisc", "htb", 0, HANDLE << 16, default=HOUSEHOLD)]
    ops += classes(line_kbps, cap_kbps)
    for fifo in leaves(line_kbps):
        ops += [Op("qdisc", "fq_codel", fifo.parent, fifo.handle, True), fifo]
    for number, protocol, keys in filters(port):
        ops.append(Op("filter", "u32", HANDLE << 16, 0, pref=number, protocol=protocol, flow=RELAY, keys=keys))
    return ops


def changes(line_kbps, cap_kbps):
    """What follows another rate: the classes, and the leaves of a kernel without fq_codel."""
    return classes(line_kbps, cap_kbps) + leaves(line_kbps)


def leaves(line_kbps):
    """A short queue for each class. The kernel refuses it where fq_codel has the place."""
    limit = max(LEAF_LEAST, line_kbps * LEAF_MS // 8 // MTU)
    return [
        Op("qdisc", "pfifo", HANDLE << 16 | minor, (HANDLE << 4 | minor >> 4) << 16, True, limit=limit)
        for minor in (HOUSEHOLD, RELAY)
    ]


def classes(line_kbps, cap_kbps):
    """The three classes."""
    line = max(line_kbps * LINE_PERMILLE // 1000, 2 * RELAY_KBPS)
    cap = max(RELAY_KBPS, min(cap_kbps, line))
    top = HANDLE << 16
    root = top | 1
    return [
        Op("class", "htb", top, root, rate=line, ceil=line, prio=0, burst=burst(line)),
        Op("class", "htb", root, top | HOUSEHOLD, rate=line - RELAY_KBPS, ceil=line, prio=0, burst=burst(line)),
        Op("class", "htb", root, top | RELAY, rate=RELAY_KBPS, ceil=cap, prio=7, burst=MTU, cburst=burst(cap)),
    ]


def burst(kbps):
    """Bytes: 1 ms of the rate, at least one packet."""
    return max(MTU, kbps // 8)


def filters(port):
    """(preference, protocol, [(value, mask, offset)]) of what is the relay's."""
    if not port:
        return [(1, "ip", [LE4]), (2, "ipv6", [LE6])]
    return [
        (1, "ip", [(UDP << 16, 0x00FF0000, 8), (port << 16, 0xFFFF0000, 20)]),
        (2, "ipv6", [(UDP << 8, 0x0000FF00, 4), (port << 16, 0xFFFF0000, 40)]),
    ]


def command(op, wan, verb="add"):
    """The words of `tc` for one step, without `tc` itself."""
    words = [op.kind, verb, "dev", wan]
    words += ["root"] if op.kind == "qdisc" and not op.parent else ["parent", name(op.parent)]
    o = op.options
    if op.kind == "filter":
        words += ["protocol", o["protocol"], "pref", str(o["pref"]), "u32"]
        for value, mask, at in o["keys"]:
            words += ["match", "u32", "0x%08x" % value, "0x%08x" % mask, "at", str(at)]
        return " ".join(words + ["flowid", name(HANDLE << 16 | o["flow"])])
    words += ["handle" if op.kind == "qdisc" else "classid", name(op.handle), op.name]
    if "default" in o:
        words += ["default", "0x%x" % o["default"]]
    if "limit" in o:
        words += ["limit", str(o["limit"])]
    if op.kind == "class":
        words += ["rate", "%dkbit" % o["rate"], "ceil", "%dkbit" % o["ceil"], "prio", str(o["prio"])]
        words += ["burst", "%db" % o["burst"], "cburst", "%db" % o.get("cburst", o["burst"]), "quantum", str(MTU)]
    return " ".join(words)


def name(handle):
    """`b3:10` of 0xb30010."""
    major, minor = handle >> 16, handle & 0xFFFF
    return "%x:%x" % (major, minor) if minor else "%x:" % major


def verdict(kind, handle, options):
    """(whether the WAN's root qdisc may be replaced, warning) for a root of this kind, handle and text of options.

    The kernel's own default has handle 0 and comes back when ours goes; whatever has a handle, somebody set.
    """
    if handle == HANDLE << 16 and kind == "htb":
        return True, ""
    if handle == 0:
        return True, ""
    said = "the WAN has a %s qdisc of somebody else's; it is left alone" % kind
    if kind == "cake" and "besteffort" in options:
        said += ", but it ignores DSCP (besteffort): set diffserv3 or diffserv4 for the household to go first"
    elif kind == "htb":
        said += "; whether it looks at DSCP depends on its filters"
    elif kind not in ("cake", "prio", "pfifo_fast"):
        said += ", but it ignores DSCP: the household is protected by the relay's own pacing alone"
    return False, said
