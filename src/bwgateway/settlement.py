"""The settlement loop: redeemed units -> leaves -> root on chain -> claims.

For each region one epoch is under way at a time, and its row says how far it came:

    (none)  -> frozen   leaves are kept in the ledger, in one transaction with the relays' `settled` marks
    frozen  -> closed   their root is computed
    closed  -> posted   the root is on chain
    posted  -> settled  the challenge window has passed and every leaf is paid

Every step first asks the chain what is true, so it may be repeated, by another process too: a crash between a step and
its record, or a chain that lost its newest blocks, leads to the same step again. Transactions go through the
journal (`chain.sender`).
"""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import Any

import structlog
from sqlalchemy import select, update

from bwgateway import accounts, challenges, freeze, metrics
from bwgateway.chain.answers import ChainError, Reverted
from bwgateway.chain.contracts import Contracts
from bwgateway.database import Database
from bwgateway.leases import Lease
from bwgateway.merkle import Tree, leaf
from bwgateway.mint import DENOMINATIONS, UNIT_WEI, MintKeys
from bwgateway.prices import Prices
from bwgateway.schema import counters, epochs, leaves

log = structlog.get_logger()
CLAIM_BATCH = 50  # leaves in one claimMany
_LEASE_SECONDS = 5
_OUTCOME_SECONDS = 30.0
_PAID_SECONDS = 20.0  # how long it is believed that all leaves are paid, though the root is not seen as final


class Settlement:
    """The loop and its steps for all regions of a gateway."""

    def __init__(
        self,
        db: Database,
        chain: Contracts,
        mint: MintKeys,
        regions: list[int],
        epoch_seconds: int,
        gas_share_bps: int = 0,
    ) -> None:
        self.gas_share_bps = gas_share_bps
        self._db = db
        self._chain = chain
        self._mint = mint
        self._regions = regions
        self.epoch_seconds = epoch_seconds
        self.phi_bps = 0
        self.prices = Prices(db, chain, regions)
        self._lease = Lease(db, "settlement", _LEASE_SECONDS)
        self._published: set[bytes] = set()
        self._paid: dict[int, tuple[int, float]] = {}
        self._trees: dict[tuple[int, int], tuple[Tree, dict[str, int]]] = {}

    def running(self, now: float) -> dict[str, int]:
        """Number and end of the epoch that runs, as the contract counts."""
        number = int(now) // self.epoch_seconds
        return {"number": number, "ends": (number + 1) * self.epoch_seconds}

    def net_wei(self, units: int) -> int:
        """What units bring: their price less φ."""
        return units * UNIT_WEI * (10_000 - self.phi_bps) // 10_000

    def relays_wei(self, units: int) -> int:
        """What a relay earns for units: what they bring less the share for gas."""
        return self.net_wei(units) * (10_000 - self.gas_share_bps) // 10_000

    async def prepare(self) -> None:
        """Read the contract's constants and send what the journal has and the chain lacks."""
        self.phi_bps = await self._chain.phi_bps()
        deployed = await self._chain.epoch_seconds()
        if deployed != self.epoch_seconds:
            log.warning("settlement.epoch_seconds", setting=self.epoch_seconds, deployed=deployed)
            self.epoch_seconds = deployed
        await self._chain.ask(self._chain.sender.resend())

    async def run(self) -> None:
        """Tick until cancelled; an error of the chain only delays."""
        pause = min(5.0, max(0.5, self.epoch_seconds / 10))
        while True:
            try:
                if await self._lease.hold():
                    await self.tick()
            except (ChainError, Reverted) as e:
                log.warning("settlement.delayed", error=str(e))
            except Exception:
                log.exception("settlement.failed")
            await asyncio.sleep(pause)

    async def release(self) -> None:
        """Give the lease back at shutdown."""
        await self._lease.release()

    async def tick(self) -> None:
        """One round over keys, withdrawals and regions; first what a reorganisation has dropped is sent again."""
        await self._chain.ask(self._chain.sender.resend())
        await self.prices.sample()
        await self._publish_keys()
        await self._answer_withdrawals()
        for region in self._regions:
            try:
                await self._advance(region)
            except Reverted as e:
                log.error("settlement.refused", region=region, reason=str(e))

    async def _advance(self, region: int) -> None:
        epoch = await self._latest(region)
        if epoch is not None and epoch.state == "settled":
            epoch = await self._recheck(region, epoch)
        if epoch is None or epoch.state == "settled":
            await self._close(region, epoch)
            epoch = await self._latest(region)
        if epoch is not None and epoch.state == "frozen":
            await self._seal(region, epoch)
            epoch = await self._latest(region)
        if epoch is not None and epoch.state in ("closed", "posted"):
            await self._post(region, epoch)
            epoch = await self._latest(region)
        if epoch is not None and epoch.state == "posted":
            await self._claim(region, epoch)

    async def _latest(self, region: int) -> Any:
        async with self._db.read() as connection:
            query = select(epochs).where(epochs.c.region == region).order_by(epochs.c.number.desc()).limit(1)
            return (await connection.execute(query)).first()

    async def _recheck(self, region: int, epoch: Any) -> Any:
        """A settled epoch whose root the chain does not have as final (it lost blocks, and its claims failed when they
        were sent again) goes back to where the chain is."""
        onchain = await self._chain.ledger(region)
        if bytes(epoch.root) == onchain.root:
            return epoch
        pending = onchain.claimable_at and bytes(epoch.root) == onchain.pending_root
        log.warning("settlement.lost_root", region=region, epoch=epoch.number, pending=bool(pending))
        claimable_at = onchain.claimable_at if pending else None
        await self._mark(region, epoch.number, "posted" if pending else "closed", claimable_at=claimable_at)
        return await self._latest(region)

    # --- close ---

    async def _close(self, region: int, last: Any) -> None:
        """Freeze the leaves of the epoch that has just ended, if anything was redeemed since the last root."""
        number = await self._chain.now() // self.epoch_seconds - 1
        onchain = await self._chain.ledger(region)
        if number <= max(onchain.epoch, last.number if last else 0):
            return
        due = await freeze.waiting(self._db, region)
        if not due:
            return
        owners = {relay: await self._payout(relay) for relay, now in due.items() if now.units > now.promised}
        operator = self._chain.operator.address.lower()
        ice = freeze.Freeze(self._db, self.net_wei, self.relays_wei, operator)
        total = int(last.total_wei) if last else 0
        if await self._db.transact(lambda connection: ice.run(connection, region, number, owners, total)):
            metrics.roots.labels(str(region), "closed").inc()
            log.info("settlement.closed", region=region, epoch=number, relays=len(due))

    async def _payout(self, relay: bytes) -> str | None:
        stake = await self._chain.stake(relay, fresh=True)
        return stake.payout.lower() if stake else None

    async def _seal(self, region: int, epoch: Any) -> None:
        """Compute the root of the frozen leaves, outside any transaction."""
        tree, _ = await self.tree(region, epoch.number)
        await self._mark(region, epoch.number, "closed", root=tree.root)

    # --- post ---

    async def _post(self, region: int, epoch: Any) -> None:
        """Bring the root on chain, or note that it is there; a posted root that the chain lost goes back to closed."""
        root, total = bytes(epoch.root), int(epoch.total_wei)
        onchain = await self._chain.ledger(region)
        if root in (onchain.pending_root if onchain.claimable_at else b"", onchain.root):
            if epoch.state == "closed":
                await self._mark(region, epoch.number, "posted", claimable_at=onchain.claimable_at)
                metrics.roots.labels(str(region), "posted").inc()
                metrics.posted_wei.labels(str(region)).set(total)
            return
        if epoch.state == "posted":
            log.warning("settlement.lost_root", region=region, epoch=epoch.number)
            await self._mark(region, epoch.number, "closed", claimable_at=None)
        await self._charge(region)
        try:
            hash = await self._chain.post_root(region, epoch.number, root, total)
        except Reverted:
            await accounts.forget_charged(self._db, region)
            raise
        if await self._chain.outcome(hash, _OUTCOME_SECONDS) is not True:
            return  # next tick looks again
        await self._chain.settled()
        onchain = await self._chain.ledger(region)
        if root != onchain.pending_root:  # mined, but not under the head that the light client believes yet
            return
        await self._mark(region, epoch.number, "posted", posted_tx=hash, claimable_at=onchain.claimable_at)
        metrics.roots.labels(str(region), "posted").inc()
        metrics.posted_wei.labels(str(region)).set(total)
        log.info("settlement.posted", region=region, epoch=epoch.number, root=root.hex(), total_wei=str(total))

    async def _mark(self, region: int, number: int, state: str, **values: Any) -> None:
        async with self._db.write() as connection:
            await connection.execute(
                update(epochs).where(epochs.c.region == region, epochs.c.number == number).values(state=state, **values)
            )

    # --- claim ---

    async def _claim(self, region: int, epoch: Any) -> None:
        """Answer challenges; after the challenge window, pay every leaf that is not paid."""
        if (await self._chain.ledger(region)).challenges:  # until they are answered the root is not final
            tree, sums = await self.tree(region, epoch.number)
            await challenges.answer(self._chain, region, epoch, tree, sums)
            return
        if await self._chain.now() < (epoch.claimable_at or 0):
            return
        number, at = self._paid.get(region, (0, 0.0))
        due: list[tuple[str, int]] | None = []
        if number != epoch.number or time.monotonic() - at > _PAID_SECONDS:
            if (due := await self._pay(region, epoch)) is None:
                return
            self._paid[region] = (epoch.number, time.monotonic())
        await self._chain.settled()
        if (await self._chain.ledger(region)).root != bytes(epoch.root):
            return  # paid, but not under the head that the light client believes yet
        await self._mark(region, epoch.number, "settled", settled_at=int(time.time()))
        metrics.roots.labels(str(region), "settled").inc()
        log.info("settlement.settled", region=region, epoch=epoch.number, claims=len(due or []))

    async def _pay(self, region: int, epoch: Any) -> list[tuple[str, int]] | None:
        """Claim for every payout that is due; None while one is not mined."""
        tree, sums = await self.tree(region, epoch.number)
        due = [(p, w) for p, w in sorted(sums.items()) if await self._chain.claimed(region, p) < w]
        for at in range(0, len(due), CLAIM_BATCH):
            batch = due[at : at + CLAIM_BATCH]
            claims = [(p, wei, tree.proof(leaf(bytes.fromhex(p[2:]), wei))) for p, wei in batch]
            purpose = f"claim:{region}:{epoch.number}:{due[at][0]}"
            hash = await self._chain.claim_many(purpose, region, claims)
            if await self._chain.outcome(hash, _OUTCOME_SECONDS) is not True:
                return None
        return due

    async def tree(self, region: int, number: int) -> tuple[Tree, dict[str, int]]:
        """The tree of an epoch and its leaves (payout -> cumulative wei). Raises KeyError when they are pruned."""
        cached = self._trees.get((region, number))
        if cached is None:
            async with self._db.read() as connection:
                query = select(leaves.c.payout, leaves.c.cumulative_wei)
                rows = await connection.execute(query.where(leaves.c.region == region, leaves.c.number == number))
                sums = {row.payout: int(row.cumulative_wei) for row in rows}
            if not sums:
                raise KeyError(f"region {region}, epoch {number}")
            tree = await asyncio.to_thread(Tree.of, {bytes.fromhex(p[2:]): wei for p, wei in sums.items()})
            kept = {k: v for k, v in self._trees.items() if k[0] != region or k[1] > number - freeze.KEEP}
            cached = (tree, sums)
            self._trees = kept | {(region, number): cached}
        return cached

    # --- mint keys, withdrawals ---

    async def _publish_keys(self) -> None:
        """Commit the keys that issue now on chain, so that a buyer can see that all buyers get the same."""
        for region in self._regions:
            for units in DENOMINATIONS:
                key = self._mint.at(region, units, time.time())
                if key is None or key.id in self._published:
                    continue
                if await self._chain.mint_key(key.id) != key.public:
                    hash = await self._chain.register_mint_key(key)
                    if await self._chain.outcome(hash, _OUTCOME_SECONDS) is not True:
                        continue
                self._published.add(key.id)

    async def _answer_withdrawals(self) -> None:
        """Look at every account that gave notice: its deposit shrinks, its voucher goes on chain before it leaves."""
        head = await self._chain.block()
        async with self._db.read() as connection:
            query = select(counters.c.value).where(counters.c.name == "withdrawals")
            seen = (await connection.execute(query)).scalar_one_or_none()
        since = self._chain.addresses.block if seen is None or seen > head else seen + 1
        if since > head:
            return
        notices = await self._chain.withdrawals(since, head)
        for region, account in notices:
            await accounts.credit(self._db, account, region, await self._chain.deposit(account, region))
        for region in {region for region, _ in notices}:
            await self._charge(region)
        async with self._db.write() as connection:
            insert = self._db.insert(counters).values(name="withdrawals", value=head)
            await connection.execute(
                insert.on_conflict_do_update(index_elements=[counters.c.name], set_={"value": head})
            )

    async def _charge(self, region: int) -> None:
        """Bring buyers' vouchers on chain: a root may not exceed what they release."""
        due = await accounts.uncharged(self._db, region)
        for at in range(0, len(due), CLAIM_BATCH):
            batch = due[at : at + CLAIM_BATCH]
            try:
                done = await self._bring(region, batch)
            except Reverted as e:
                log.error("settlement.voucher_refused", region=region, reason=str(e))
                done = [v for one in batch for v in await self._bring_alone(region, one)]
            await accounts.charged(self._db, region, done)

    async def _bring(self, region: int, batch: list[accounts.Voucher]) -> list[accounts.Voucher]:
        mark = sha256(b"".join(v.signature for v in batch)).hexdigest()[:32]
        hash = await self._chain.charge(f"charge:{region}:{mark}", region, [v.claim for v in batch])
        return batch if await self._chain.outcome(hash, _OUTCOME_SECONDS) else []

    async def _bring_alone(self, region: int, voucher: accounts.Voucher) -> list[accounts.Voucher]:
        try:
            return await self._bring(region, [voucher])
        except Reverted as e:
            log.error("settlement.voucher_refused", region=region, account=voucher.account, reason=str(e))
            return []
