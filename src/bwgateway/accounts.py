"""Buyers' deposits, in units: what the chain has shown less what left as tickets."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bwgateway.chain.answers import Deposit
from bwgateway.database import Database
from bwgateway.mint import UNIT_WEI
from bwgateway.schema import accounts


@dataclass(frozen=True)
class Account:
    """Units deposited (and not under notice of withdrawal), and units issued."""

    deposited: int
    issued: int

    @property
    def balance(self) -> int:
        """Units that can still become tickets."""
        return max(0, self.deposited - self.issued)


async def read(connection: AsyncConnection, account: str, region: int) -> Account:
    """The account of a lower-case address; all zero when it is unknown."""
    query = select(accounts.c.deposited, accounts.c.issued)
    row = (await connection.execute(query.where(accounts.c.account == account, accounts.c.region == region))).first()
    return Account(row.deposited, row.issued) if row else Account(0, 0)


async def credit(db: Database, account: str, region: int, deposit: Deposit) -> Account:
    """Note what the chain shows, unless something newer is known; the account after it.

    Vouchers that the chain knows and this ledger does not (it was restored from a backup) count as issued.
    """
    usable = max(0, deposit.paid_in - deposit.leaving) // UNIT_WEI
    spent = -(-deposit.spent // UNIT_WEI)

    async def work(connection: AsyncConnection) -> Account:
        blank = db.insert(accounts).values(
            account=account, region=region, deposited=0, issued=0, seen_block=0, charged=0
        )
        await connection.execute(blank.on_conflict_do_nothing())
        await connection.execute(
            update(accounts)
            .where(accounts.c.account == account, accounts.c.region == region, accounts.c.seen_block <= deposit.block)
            .values(
                deposited=usable,
                seen_block=deposit.block,
                issued=case((accounts.c.issued < spent, spent), else_=accounts.c.issued),
            )
        )
        return await read(connection, account, region)

    return await db.transact(work)


async def debit(
    connection: AsyncConnection, account: str, region: int, units: int, issued_after: int, voucher: bytes
) -> Account | None:
    """Turn `units` into tickets, vouched for up to `issued_after`; the account, or None (nothing taken) when the
    balance is too small or another issue was faster."""
    row = (
        await connection.execute(
            update(accounts)
            .where(
                accounts.c.account == account,
                accounts.c.region == region,
                accounts.c.deposited - accounts.c.issued >= units,
                accounts.c.issued == issued_after - units,
            )
            .values(issued=issued_after, voucher=voucher)
            .returning(accounts.c.deposited, accounts.c.issued)
        )
    ).first()
    return None if row is None else Account(row.deposited, row.issued)


@dataclass(frozen=True)
class Voucher:
    """An account's newest voucher: units in all, and the signature."""

    account: str
    units: int
    signature: bytes

    @property
    def claim(self) -> tuple[str, int, bytes]:
        """As Settlement.charge takes it: account, cumulative wei, signature."""
        return self.account, self.units * UNIT_WEI, self.signature


async def uncharged(db: Database, region: int) -> list[Voucher]:
    """Vouchers of a region that are not known to be on chain, in order of account."""
    query = select(accounts.c.account, accounts.c.issued, accounts.c.voucher)
    query = query.where(accounts.c.region == region, accounts.c.issued > accounts.c.charged)
    async with db.read() as connection:
        rows = await connection.execute(query.where(accounts.c.voucher.is_not(None)).order_by(accounts.c.account))
        return [Voucher(row.account, row.issued, bytes(row.voucher)) for row in rows]


async def charged(db: Database, region: int, vouchers: list[Voucher]) -> None:
    """Note that these vouchers are on chain."""
    async with db.write() as connection:
        for v in vouchers:
            row = (accounts.c.account == v.account) & (accounts.c.region == region)
            await connection.execute(update(accounts).where(row, accounts.c.charged < v.units).values(charged=v.units))


async def forget_charged(db: Database, region: int) -> None:
    """The chain does not have what was charged (it lost blocks): every voucher will be brought again."""
    async with db.write() as connection:
        await connection.execute(update(accounts).where(accounts.c.region == region).values(charged=0))
