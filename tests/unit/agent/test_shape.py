"""The traffic control plan as the exact `tc` commands."""

from bwrouter.agent import shape

GOLDEN = """
qdisc add dev wan root handle b3: htb default 0x10
class add dev wan parent b3: classid b3:1 htb rate 39880kbit ceil 39880kbit prio 0 burst 4985b cburst 4985b quantum 1514
class add dev wan parent b3:1 classid b3:10 htb rate 39872kbit ceil 39880kbit prio 0 burst 4985b cburst 4985b quantum 1514
class add dev wan parent b3:1 classid b3:20 htb rate 8kbit ceil 30000kbit prio 7 burst 1514b cburst 3750b quantum 1514
qdisc add dev wan parent b3:10 handle b31: fq_codel
qdisc add dev wan parent b3:10 handle b31: pfifo limit 330
qdisc add dev wan parent b3:20 handle b32: fq_codel
qdisc add dev wan parent b3:20 handle b32: pfifo limit 330
filter add dev wan parent b3: protocol ip pref 1 u32 match u32 0x00040000 0x00fc0000 at 0 flowid b3:20
filter add dev wan parent b3: protocol ipv6 pref 2 u32 match u32 0x00400000 0x0fc00000 at 0 flowid b3:20
"""
BY_PORT = """
filter add dev wan parent b3: protocol ip pref 1 u32 match u32 0x00110000 0x00ff0000 at 8 match u32 0xcabc0000 0xffff0000 at 20 flowid b3:20
filter add dev wan parent b3: protocol ipv6 pref 2 u32 match u32 0x00001100 0x0000ff00 at 4 match u32 0xcabc0000 0xffff0000 at 40 flowid b3:20
"""  # noqa: E501


def lines(plan, verb="add"):
    return [shape.command(op, "wan", verb) for op in plan]


def test_the_plan():
    assert lines(shape.plan(40000, 30000)) == GOLDEN.strip().split("\n")


def test_by_port_where_nothing_is_marked():
    plan = lines(shape.plan(40000, 30000, 51900))
    assert plan[:8] == GOLDEN.strip().split("\n")[:8] and plan[8:] == BY_PORT.strip().split("\n")


def test_a_change_names_the_classes_and_the_length_of_their_queues():
    changed = lines(shape.changes(20000, 90000), "change")
    assert changed[3:] == [
        "qdisc change dev wan parent b3:10 handle b31: pfifo limit 165",
        "qdisc change dev wan parent b3:20 handle b32: pfifo limit 165",
    ]
    assert changed[2].startswith("class change dev wan parent b3:1 classid b3:20 htb rate 8kbit")
    assert "ceil 19940kbit prio 7" in changed[2]  # a cap above the line is the line


def test_a_slow_line_and_a_cap_of_nothing_are_still_valid():
    root, home, relay = shape.classes(8, 0)
    assert root.options["rate"] == 16 and home.options["rate"] == 8 and relay.options["ceil"] == 8


def test_a_queue_holds_a_tenth_of_a_second_but_never_too_few_packets_for_tcp():
    assert [shape.leaves(kbps)[0].options["limit"] for kbps in (8, 1000, 2000, 10000, 300000)] == [16, 16, 16, 82, 2476]


def test_what_somebody_else_set_is_left_alone():
    for kind, handle, options, free, words in (
        ("noqueue", 0, "", True, ""),
        ("fq_codel", 0, "limit 10240p", True, ""),
        ("mq", 0, "", True, ""),
        ("htb", shape.HANDLE << 16, "", True, ""),
        ("cake", 0x80010000, "bandwidth 40Mbit diffserv4", False, "left alone"),
        ("cake", 0x80010000, "bandwidth 40Mbit besteffort", False, "ignores DSCP"),
        ("htb", 0x10000, "default 0x10", False, "filters"),
        ("tbf", 0x80020000, "rate 10Mbit", False, "ignores DSCP"),
        ("fq_codel", 0x80030000, "", False, "ignores DSCP"),
    ):
        found, warning = shape.verdict(kind, handle, options)
        assert found == free and words in warning, (kind, options, found, warning)
    assert "ignores" not in shape.verdict("cake", 1 << 16, "diffserv3")[1]
