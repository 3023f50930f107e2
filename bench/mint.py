"""What one gateway process mints and redeems: `python bench/mint.py` or `make bench-mint`.

A real gateway over PostgreSQL, then over SQLite, on a real chain; requests are signed before the clock starts and sent
by a process of its own over loopback. Open latency is taken at half of the measured rate of single opens.
Prints a table with the goals and, as the last line, one JSON object. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pathlib
import secrets
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "src"))

import aiohttp
import psycopg

from bench.goals import limits
from bwclient.wallet import UNIT_WEI, Wallet
from bwgateway.merkle import Tree, leaf
from tests.gateway.cluster import cluster
from tests.gateway.postgres import postgres
from tests.gateway.rig import Relay, Rig, opening

GOALS = limits("mint")
AT_MOST = ("open_p99_ms", "root_1m_seconds")
BATCH = 256
UNITS = 64
ACCOUNTS = 4
BATCHES = int(os.environ.get("BENCH_BATCHES", "12"))
SINGLES = int(os.environ.get("BENCH_SINGLES", "3000"))
LEAVES = int(os.environ.get("BENCH_LEAVES", "1000000"))


async def _send(url: str, bodies: list[bytes], parallel: int, rate: float) -> tuple[float, list[float], list[Any]]:
    """Send bodies, `parallel` at a time or at `rate` a second: seconds in all, seconds of each, answers in order."""
    answers: list[Any] = [None] * len(bodies)
    took = [0.0] * len(bodies)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"content-type": "application/json"}) as session:
        start = time.perf_counter()

        async def one(i: int, due: float) -> None:
            async with session.post(url, data=bodies[i]) as answer:
                answers[i] = await answer.json()
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {answers[i]}")
            took[i] = time.perf_counter() - due

        if rate:
            tasks = []
            for i in range(len(bodies)):
                due = start + i / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.append(asyncio.create_task(one(i, due)))
            await asyncio.gather(*tasks)
        else:
            waiting = iter(range(len(bodies)))

            async def worker() -> None:
                for i in waiting:
                    await one(i, time.perf_counter())

            await asyncio.gather(*(worker() for _ in range(parallel)))
        return time.perf_counter() - start, took, answers


def send(url: str, bodies: list[bytes], parallel: int, rate: float) -> tuple[float, list[float], list[Any]]:
    """`_send` in the generator's process."""
    return asyncio.run(_send(url, bodies, parallel, rate))


class Bench:
    """One gateway, its buyers and one relay."""

    def __init__(self, rig: Rig, generator: ProcessPoolExecutor, database_url: str = "") -> None:
        self.rig, self._database = rig, database_url.replace("+psycopg", "")
        self._generator = generator
        self.relay = Relay(rig).register()
        self.wallets = [rig.wallet(f"buyer{i}", bwt=1000) for i in range(ACCOUNTS)]
        self.tickets: list[Any] = []
        self.cpu_of: dict[str, float] = {}
        self.wal_of: dict[str, int] = {}

    def load(
        self, path: str, bodies: list[Any], parallel: int = 4, rate: float = 0
    ) -> tuple[float, list[float], list[Any]]:
        """Have the generator send these bodies."""
        encoded = [json.dumps(b).encode() for b in bodies]
        before, wal = self.cpu(), self.wal()
        result = self._generator.submit(send, self.rig.url + path, encoded, parallel, rate).result()
        self.cpu_of[path] = self.cpu_of.get(path, 0.0) + self.cpu() - before
        self.wal_of[path] = self.wal_of.get(path, 0) + self.wal() - wal
        return result

    def issue(self) -> float:
        """Tickets a second in batches of BATCH, one batch at a time for each account."""
        total = BATCHES * BATCH * UNITS * UNIT_WEI
        prepared: list[tuple[Wallet, list[tuple[bytes, Any]]]] = []
        for wallet in self.wallets:
            wallet.swap(1, total, slippage_bps=1000)
            wallet.deposit(1, total)
            wallet.wait_for_credit(1, total)
            prepared.append(
                (wallet, [wallet.prepare(1, UNITS, BATCH, k * BATCH * UNITS * UNIT_WEI) for k in range(BATCHES)])
            )
        # Round k holds the k-th batch of every account: vouchers of one account must arrive in order.
        rounds = [[p[1][k] for p in prepared] for k in range(BATCHES)]
        elapsed = 0.0
        answers = []
        for batch in rounds:
            seconds, _, answered = self.load("/v1/issue", [body for _, body in batch], parallel=ACCOUNTS)
            elapsed += seconds
            answers.append(answered)
        for k, answered in enumerate(answers):
            for (wallet, _), (seed, body), answer in zip(prepared, rounds[k], answered, strict=True):
                self.tickets += wallet._unblind(seed, body, answer)
        return BATCHES * BATCH * ACCOUNTS / elapsed

    def open_singles(self) -> tuple[float, float, float]:
        """Single opens a second at full load; p50 and p99 in ms at half of that rate."""
        bodies = [self._open([t]) for t in self.tickets[: 2 * SINGLES]]
        seconds, _, _ = self.load("/v1/open", bodies[:SINGLES], parallel=16)
        rate = SINGLES / seconds
        _, took, _ = self.load("/v1/open", bodies[SINGLES:], rate=rate / 2)
        ordered = sorted(took)
        return rate, statistics.median(ordered) * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3

    def _open(self, tickets: list[Any]) -> Any:
        return self.relay.sign("/v1/open", {"tickets": [opening(t) for t in tickets]})

    def open_batches(self) -> float:
        """Tickets a second in batches."""
        rest = self.tickets[2 * SINGLES :]
        bodies = [self._open(rest[i : i + BATCH]) for i in range(0, len(rest), BATCH)]
        seconds, _, _ = self.load("/v1/open", bodies)
        return len(rest) / seconds

    def redeem(self) -> float:
        """Whole tickets a second in batches: every one of UNITS preimages is verified."""
        bodies = []
        for i in range(0, len(self.tickets), BATCH):
            items = [{"id": t.id.hex(), "index": UNITS, "preimage": t.top.hex()} for t in self.tickets[i : i + BATCH]]
            bodies.append(self.relay.sign("/v1/redeem", {"items": items}))
        seconds, _, answers = self.load("/v1/redeem", bodies)
        assert all(r["ok"] for a in answers for r in a["results"])
        assert self.relay.earnings()["units"] == len(self.tickets) * UNITS
        return len(self.tickets) / seconds

    def cpu(self) -> float:
        """CPU seconds that the gateway's process has used."""
        assert self.rig.process is not None
        fields = pathlib.Path(f"/proc/{self.rig.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wal(self) -> int:
        """Bytes of PostgreSQL's write-ahead log so far; 0 over SQLite."""
        if not self._database:
            return 0
        with psycopg.connect(self._database) as c:
            row = c.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
        assert row
        return int(row[0])

    def rss_kb(self) -> int:
        """Resident memory of the gateway's process."""
        assert self.rig.process is not None
        status = pathlib.Path(f"/proc/{self.rig.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def run(self) -> dict[str, float]:
        """All figures of this gateway."""
        figures = {"issue_per_s": self.issue()}
        figures["open_per_s"], figures["open_p50_ms"], figures["open_p99_ms"] = self.open_singles()
        figures["open_cpu_ms"] = self.cpu_of.pop("/v1/open") / (2 * SINGLES) * 1e3
        figures["open_wal_bytes"] = self.wal_of.pop("/v1/open") / (2 * SINGLES)
        figures["open_batch_per_s"] = self.open_batches()
        figures["redeem_per_s"] = self.redeem()
        count = len(self.tickets)
        figures["issue_per_cpu_s"] = count / self.cpu_of["/v1/issue"]
        figures["redeem_per_cpu_s"] = count / self.cpu_of["/v1/redeem"]
        figures["issue_wal_bytes"] = self.wal_of["/v1/issue"] / count
        figures["redeem_wal_bytes"] = self.wal_of["/v1/redeem"] / count
        figures["rss_kb"] = self.rss_kb()
        return figures


def root() -> float:
    """Seconds for the tree of LEAVES leaves, hashing included, and one proof."""
    sums = {secrets.token_bytes(20): secrets.randbits(80) for _ in range(LEAVES)}
    start = time.perf_counter()
    tree = Tree.of(sums)
    account, amount = next(iter(sums.items()))
    tree.proof(leaf(account, amount))
    return (time.perf_counter() - start) * 1_000_000 / LEAVES


def measured(database_url: str, generator: ProcessPoolExecutor) -> dict[str, float]:
    """Figures of one gateway process over a database."""
    with tempfile.TemporaryDirectory(prefix="bench-mint-") as folder:
        settings = {"epoch_seconds": 3600, "log_level": "warning"}
        with cluster(pathlib.Path(folder), database_url, 1, **settings) as (rig,):
            return Bench(rig, generator, database_url).run()


def main() -> int:
    """Measure, print, judge."""
    context = multiprocessing.get_context("spawn")
    figures: dict[str, float] = {"root_1m_seconds": root()}
    with ProcessPoolExecutor(1, mp_context=context) as generator:
        with postgres() as url:
            figures |= measured(url, generator)
        figures |= {f"sqlite_{k}": v for k, v in measured("", generator).items()}
    missed = [k for k, goal in GOALS.items() if (figures[k] > goal if k in AT_MOST else figures[k] < goal)]
    for key, value in figures.items():
        told = f"   goal {GOALS[key]:g}{' MISSED' if key in missed else ''}" if key in GOALS else ""
        print(f"{key:<26}{value:>14,.2f}{told}")
    rounded = {k: round(v, 3) for k, v in figures.items()}
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps({"bench": "mint", **rounded, **machine, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
