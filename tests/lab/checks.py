"""What must hold at the end of a run, and the figures it reports. No I/O: facts in, verdicts out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.lab.capture import clear_headers

UNIT_WEI = 10**18 // 16_384  # docs/architecture.md: a unit in wei of the region's token
MB = 1_000_000


@dataclass
class Hop:
    """One hop of the buyer's circuit, as several parties tell it. Amounts are wei, CPU is of the relay process."""

    name: str
    id: str
    runtime: str  # by the relay process itself
    binary: bool  # the kernel: the process runs the MicroPython binary that was built here
    paid: int  # units, by the buyer's client
    redeemed: int  # units, by the gateway
    payout: str
    before: int  # token balance of the payout account at the start, on chain
    balance: int  # and at the end
    gross: int  # Settlement.grossOf(balance - before), on chain
    cpu_ms: float = 0.0
    rss_kb: int = 0


@dataclass
class Facts:
    """All that a finished run knows."""

    reached: int = 0
    size: int = 0
    got: int = 0
    sha256: str = ""
    sha256_got: str = ""
    download_s: float = 0.0
    hops: list[Hop] = field(default_factory=list)
    exit_id: str = ""
    root_posted: str = ""  # by the gateway
    root_chain: str = ""  # Settlement.ledger().root
    spent: int = 0  # wei that the buyer's vouchers have moved, on chain
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    web: str = ""
    peers: list[str] = field(default_factory=list)  # the inner addresses of the buyer and the exit's public one
    may_see: tuple[str, ...] = ()
    homes: dict[str, float] = field(default_factory=dict)  # upload rate of each household's bursts, Mbit/s
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Check:
    """A verdict. `ok` is None when the run did not get so far, which is no success either."""

    name: str
    ok: bool | None
    told: str = "not reached"


def check_file(f: Facts) -> Check:
    same = f.size == f.got and f.size > 0 and f.sha256 == f.sha256_got
    if not same:
        return Check(
            "file", False, f"{f.got:,} of {f.size:,} bytes, SHA-256 {f.sha256_got[:12]} is not {f.sha256[:12]}"
        )
    rate = f.got * 8 / MB / f.download_s if f.download_s else 0.0
    return Check(
        "file", True, f"{f.got:,} bytes in {f.download_s:.1f} s, {rate:.1f} Mbit/s; SHA-256 {f.sha256[:8]}… equal"
    )


def check_circuit(f: Facts) -> Check:
    ids = [h.id for h in f.hops]
    good = len(ids) == 3 == len(set(ids)) and all(ids) and ids[-1] == f.exit_id
    return Check("circuit", good, " > ".join(f"{h.name} {h.id[:8]}" for h in f.hops) or "no hops")


def check_runtime(f: Facts) -> Check:
    good = bool(f.hops) and all(h.runtime == "micropython" and h.binary for h in f.hops)
    told = [f"{h.name} {h.runtime or 'unknown'}{'' if h.binary else ' (other binary)'}" for h in f.hops]
    return Check("runtime", good, ", ".join(told))


def check_paid(f: Facts) -> Check:
    good = bool(f.hops) and all(h.paid == h.redeemed > 0 for h in f.hops)
    if good:
        return Check("paid", True, " + ".join(str(h.paid) for h in f.hops) + " units, each hop: paid = redeemed")
    return Check("paid", False, ", ".join(f"{h.name} {h.paid} paid, {h.redeemed} redeemed" for h in f.hops))


def check_root(f: Facts) -> Check:
    good = bool(f.root_posted) and f.root_posted == f.root_chain and int(f.root_chain, 16) != 0
    told = f"{f.root_chain[:18]}… is final on chain"
    return Check(
        "epoch root", good, told if good else f"on chain {f.root_chain or 'none'}, posted {f.root_posted or 'none'}"
    )


def check_payout(f: Facts) -> Check:
    """Balance = units x price x (1 - phi), where the contract itself says what gross a net amount is."""
    good = bool(f.hops) and all(h.balance > h.before and h.gross == h.redeemed * UNIT_WEI for h in f.hops)
    told = " + ".join(f"{(h.balance - h.before) / 1e18:.6f}" for h in f.hops)
    return Check("payouts", good, f"{told} tokens" + (" = units x price less phi" if good else " are wrong"))


def check_deposit(f: Facts) -> Check:
    due = sum(h.redeemed for h in f.hops) * UNIT_WEI
    told = f"{f.spent / 1e18:.4f} tokens of the buyer's charged on chain, {due / 1e18:.4f} used"
    return Check("deposit", f.spent >= due > 0, told)


def check_clear(f: Facts) -> Check:
    seen = {n: clear_headers(r, f.web, f.peers) for n, r in f.links.items()}
    leaks = {n: hits for n, hits in seen.items() if hits and n not in f.may_see}
    if leaks:
        return Check(
            "privacy", False, ", ".join(f"{n} showed the web server {hits} times" for n, hits in leaks.items())
        )
    elsewhere = [n for n in f.links if n not in f.may_see]
    control = [seen.get(n, 0) for n in f.may_see]
    packets = sum(f.links[n]["packets_to"] + f.links[n]["packets_from"] for n in elsewhere)
    told = f"web server not in {packets:,} packets on {len(elsewhere)} links; control: {sum(control):,}"
    return Check("privacy", bool(elsewhere) and bool(control) and all(control), told)


def check_captures(f: Facts) -> Check:
    bad = {n: r for n, r in f.links.items() if r["dropped"] or r["truncated"] or not r["packets_to"]}
    told = ", ".join(f"{n}: {r['dropped']} dropped, {r['truncated']} cut" for n, r in bad.items())
    return Check("captures", bool(f.links) and not bad, told or f"{len(f.links)} links, no packet dropped or cut")


def check_left(f: Facts) -> Check:
    return Check("clean", not f.left, "; ".join(f.left) or "no process, namespace, rule or route left")


STARTED, DOWNLOADED, SETTLED, LOOKED = range(4)
CHECKS = (
    ("file", DOWNLOADED, check_file), ("circuit", DOWNLOADED, check_circuit), ("runtime", DOWNLOADED, check_runtime),
    ("paid", SETTLED, check_paid), ("epoch root", SETTLED, check_root), ("payouts", SETTLED, check_payout),
    ("deposit", SETTLED, check_deposit), ("privacy", LOOKED, check_clear), ("captures", LOOKED, check_captures),
    ("clean", STARTED, check_left),
)  # fmt: skip


def verdicts(f: Facts) -> list[Check]:
    """One for each of CHECKS, in order. `f.reached` says how far the run got."""
    return [check(f) if f.reached >= stage else Check(name, None) for name, stage, check in CHECKS]


def wire_per_payload(f: Facts) -> list[float]:
    """IP bytes on the wire, both ways, for each byte of the file: buyer to hop 1, hop 1 to 2, hop 2 to the exit."""
    if len(f.hops) != 3 or not f.got or not {"buyer", f.hops[0].name, f.hops[2].name} <= set(f.links):
        return []
    first, middle, last = (_relay_bytes(f.links[n]) for n in ("buyer", f.hops[0].name, f.hops[2].name))
    return [round(x / f.got, 4) for x in (first, middle - first, last)]


def overhead_pct(f: Facts, both_ways: bool = False) -> float:
    """What the onion adds: IP bytes on the buyer's link over IP bytes of the same packets past the exit. In the file's
    direction, where packets are full-size; both ways, acknowledgements and payments count too."""
    if "web" not in f.links:
        return 0.0
    outer = f.links["buyer"]["relay_bytes_to"] + both_ways * f.links["buyer"]["relay_bytes_from"]
    inner = f.links["web"]["web_bytes_from"] + both_ways * f.links["web"]["web_bytes_to"]
    return round((outer / inner - 1) * 100, 2) if inner else 0.0


def home_mbps(f: Facts) -> dict[str, float]:
    """What households got for their own uploads, Mbit/s: behind the circuit's hops, and behind routers at rest."""
    hops = {h.name for h in f.hops}
    rates = {
        "hops": [m for n, m in f.homes.items() if n in hops],
        "others": [m for n, m in f.homes.items() if n not in hops],
    }
    return {who: round(sum(r) / len(r), 1) for who, r in rates.items() if r}


def _relay_bytes(link: dict[str, Any]) -> int:
    return int(link["relay_bytes_to"] + link["relay_bytes_from"])


def result(f: Facts, ok: bool, seconds: float) -> dict[str, Any]:
    """The last line of a run."""
    return {
        "ok": ok, "bytes": f.got, "hops": len(f.hops), "runtime": [h.runtime for h in f.hops],
        "paid_units": sum(h.paid for h in f.hops), "redeemed_units": sum(h.redeemed for h in f.hops),
        "claimed_wei": str(sum(h.balance - h.before for h in f.hops)), "overhead_pct": overhead_pct(f),
        "overhead_both_ways_pct": overhead_pct(f, both_ways=True),
        "seconds": round(seconds, 1), "download_s": round(f.download_s, 2),
        "cpu_ms_per_mb": [round(h.cpu_ms / (f.got / MB), 2) for h in f.hops] if f.got else [],
        "relay_rss_kb": [h.rss_kb for h in f.hops], "wire_per_payload": wire_per_payload(f),
        "home_mbps": home_mbps(f),
    }  # fmt: skip
