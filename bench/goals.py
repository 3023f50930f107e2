"""Every goal of the product, in one place: what `make bench` judges and what single benchmarks print beside figures.

A figure is a key of the JSON object that its benchmark prints last. Goals are those of docs/benchmarks.md; a test holds
the benchmarks that keep a constant of their own to this table (tests/static/test_goals.py).
"""

from __future__ import annotations

from dataclasses import dataclass

AT_MOST, AT_LEAST, EQUAL = "<=", ">=", "="


@dataclass(frozen=True)
class Figure:
    """One row: `peer` and a text `goal` name other keys of the same result, so both are of the same run."""

    bench: str
    key: str
    told: str
    unit: str = ""
    goal: float | str | None = None
    op: str = AT_MOST
    peer: str = ""  # key of the peer's figure
    beside: str = ""  # who the peer is


FIGURES = (
    Figure("relay", "relay_ms_per_mb", "CPU of a hop, MicroPython, beside Tor", "ms/MB", 4.0,
            peer="tor_ms_per_mb", beside="Tor"),
    Figure("relay", "relay_to_tor", "the same as a share of Tor's", "", 0.5),
    Figure("relay", "relay_to_aead", "the same over bare ChaCha20-Poly1305", "", 1.9),
    Figure("relay", "relay_ms_per_mb", "CPU of a hop beside the same loop in C", "ms/MB",
            peer="c_loop_ms_per_mb", beside="C loop"),
    Figure("relay", "relay_ms_per_mb", "CPU of a hop beside wireguard-go", "ms/MB",
            peer="wg_go_ms_per_mb", beside="wireguard-go"),
    Figure("relay", "relay_ms_per_mb", "CPU of a hop beside OpenVPN", "ms/MB",
            peer="openvpn_ms_per_mb", beside="OpenVPN"),
    Figure("relay", "relay_rss_kb", "memory of a relay", "kB", 6000, peer="tor_rss_kb", beside="Tor"),
    Figure("router", "relay_insns_per_cell", "instructions of a full cell on MIPS 24K", "", 90_000,
            peer="c_loop_insns_per_cell", beside="C loop"),
    Figure("router", "relay_to_c_loop", "the same over the C loop", "", 1.4),
    Figure("contracts", "swap", "swap", "gas", 60_000),
    Figure("contracts", "claim_batch50", "claim, one of a batch of 50", "gas", 45_000),
    Figure("contracts", "claim_later", "claim alone, later ones", "gas", 62_000),
    Figure("contracts", "post_root", "epoch's root", "gas", 60_000),
    Figure("mint", "issue_per_s", "tickets issued by one process, PostgreSQL", "1/s", 2500.0, AT_LEAST),
    Figure("mint", "redeem_per_s", "tickets redeemed by one process, PostgreSQL", "1/s", 5000.0, AT_LEAST),
    Figure("mint", "open_p99_ms", "open of a ticket at half load, p99", "ms", 50.0),
    Figure("mint", "root_1m_seconds", "root of 1,000,000 accounts", "s", 2.0),
    Figure("shaper", "worst_household_lost_pct", "what the household loses", "%", 1.0),
    Figure("shaper", "worst_added_p99_ms", "delay added at p99, 10 Mbit/s and more", "ms", 5.0),
    Figure("shaper", "worst_added_p99_ms_slow", "delay added at p99, 2 Mbit/s", "ms", 20.0),
    Figure("shaper", "worst_idle_used_pct", "idle rate that the relay uses", "%", 90.0, AT_LEAST),
    Figure("shaper", "worst_yield_ms", "time to yield", "ms", 300.0),
    Figure("audit", "worst_error_pct", "error of an audit, 1 to 1000 Mbit/s", "%", 5.0),
    Figure("audit", "audit_share_pct", "audits' share of a line", "%", 1.0),
    Figure("audit", "inflation_30pct_liars", "gain by 30 % lying verifiers", "", 1.05),
    Figure("audit", "catch_probability", "an over-claim of 20 % caught in 10 epochs, p", "", 0.99, AT_LEAST),
    Figure("guest", "rss_kb", "memory of agent and relay on MIPS, 64 MB", "kB", 8192),
    Figure("guest", "installed_bytes", "installed size", "bytes", 150_000),
    Figure("guest", "idle_cpu_pct", "CPU when idle, MIPS 24K", "%", 1.0),
    Figure("guest", "flash_writes_per_hour", "flash writes", "1/h", 1.0),
    Figure("client", "goodput_share", "goodput through 3 hops over plain TCP", "", 0.90, AT_LEAST),
    Figure("client", "setup_ms", "set-up of 3 hops, 40 ms links", "ms", "setup_goal_ms"),
    Figure("client", "reroute_connections_lost", "connections lost when hops die", "", 0, EQUAL),
    Figure("client", "reroute_gap_p95_ms", "gap of a re-route, p95", "ms", 1000),
    Figure("client", "leaked_packets", "packets outside the tunnel", "", 0, EQUAL),
    Figure("luci", "poll_cpu_ms", "CPU of a poll of the owner's page", "ms", 5),
    Figure("run", "overhead_pct", "bytes that 3 hops add to a full packet", "%", 8.0),
    Figure("soak", "breached", "make soak: what did not hold under faults", "", 0, EQUAL),
    Figure("soak", "faults_in_all", "faults in that time"),
    Figure("soak", "first_byte_p95_ms", "first byte through 3 hops meanwhile, p95", "ms", 3000),
    Figure("run", "ok", "make run: file, payment, privacy, payout all hold", "", 1, EQUAL),
)  # fmt: skip

BENCHES = tuple(dict.fromkeys(f.bench for f in FIGURES))


def limits(bench: str) -> dict[str, float]:
    """The fixed goals of one benchmark by key."""
    return {f.key: float(f.goal) for f in FIGURES if f.bench == bench and isinstance(f.goal, int | float)}


def met(value: float, op: str, goal: float) -> bool:
    """Whether a figure reaches its goal."""
    if op == AT_LEAST:
        return value >= goal
    return value == goal if op == EQUAL else value <= goal
