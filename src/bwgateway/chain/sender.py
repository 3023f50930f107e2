"""The journal of sent transactions: each purpose is signed once, under one nonce, and stored before it is sent.

A stored transaction can be sent any number of times and happens once; so a crash between storing and sending, or a
chain that lost its newest blocks, is mended by sending what the chain does not have, in order of nonce (`resend`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from web3 import AsyncWeb3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from bwgateway.chain.answers import ChainError, Reverted
from bwgateway.database import Again, Database
from bwgateway.schema import transactions

log = structlog.get_logger()
_GAS_MARGIN = 1.25
_KNOWN = ("already known", "already imported", "nonce too low", "transaction already")


class Sender:
    """Sends transactions of one account."""

    def __init__(self, w3: AsyncWeb3[Any], db: Database, account: LocalAccount, chain_id: int) -> None:
        self._w3 = w3
        self._db = db
        self._account = account
        self._chain_id = chain_id

    async def send(self, purpose: str, to: str, data: str) -> bytes:
        """Send `data` to `to` for `purpose`, unless that was done before; the transaction's hash.

        Raises Reverted when the call would fail now, ChainError when the node gives no answer.
        """
        row = await self._find(purpose)
        if row is None:
            call = {"from": self._account.address, "to": to, "data": data, "chainId": self._chain_id}
            gas = await self._estimate(call)
            fees = await self._fees()
            floor = await self._w3.eth.get_transaction_count(self._account.address, "pending")
            row = await self._db.transact(lambda c: self._sign(c, purpose, {**call, **fees, "gas": gas}, floor))
            log.info("transaction.signed", purpose=purpose, nonce=row.nonce, hash=bytes(row.hash).hex())
        await self._submit(row)
        return bytes(row.hash)

    async def _find(self, purpose: str) -> Any:
        async with self._db.read() as connection:
            query = select(transactions).where(transactions.c.purpose == purpose, transactions.c.state != "failed")
            return (await connection.execute(query)).first()

    async def _estimate(self, call: Any) -> int:
        try:
            return int(await self._w3.eth.estimate_gas(call) * _GAS_MARGIN)
        except ContractLogicError as e:
            raise Reverted(str(e.data or e.message)) from e
        except Web3RPCError as e:
            raise ChainError(str(e)) from e

    async def _fees(self) -> dict[str, int]:
        block = await self._w3.eth.get_block("latest")
        tip = 10**9
        return {"maxFeePerGas": 4 * int(block["baseFeePerGas"]) + tip, "maxPriorityFeePerGas": tip}

    async def _sign(self, connection: AsyncConnection, purpose: str, call: dict[str, Any], floor: int) -> Any:
        sender = self._account.address.lower()
        mine = transactions.c.sender == sender
        highest = (await connection.execute(select(func.max(transactions.c.nonce)).where(mine))).scalar_one_or_none()
        nonce = floor if highest is None else max(floor, highest + 1)
        unsigned = {k: v for k, v in call.items() if k != "from"} | {"nonce": nonce, "type": 2, "value": 0}
        signed = self._account.sign_transaction(unsigned)
        await connection.execute(
            update(transactions)
            .where(transactions.c.purpose == purpose)
            .values(purpose=transactions.c.purpose + f" (failed at {int(time.time() * 1000)})")
        )
        if not await self._db.insert_new(
            connection,
            transactions,
            sender=sender,
            nonce=nonce,
            purpose=purpose,
            hash=bytes(signed.hash),
            raw=bytes(signed.raw_transaction),
            state="signed",
            created_at=int(time.time()),
        ):  # another process took the nonce or the purpose
            raise Again
        return (await connection.execute(select(transactions).where(mine, transactions.c.nonce == nonce))).one()

    async def _submit(self, row: Any) -> None:
        try:
            await self._w3.eth.send_raw_transaction(bytes(row.raw))
        except Web3RPCError as e:
            if not any(k in str(e).lower() for k in _KNOWN):
                log.warning("transaction.refused", purpose=row.purpose, nonce=row.nonce, error=str(e))

    async def outcome(self, hash: bytes, seconds: float) -> dict[str, Any] | None:
        """The receipt of a sent transaction once it is mined, noted in the journal; None after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            receipt = await self._receipt(hash)
            if receipt is not None:
                await self._note(hash, receipt)
                return receipt
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.1)

    async def _receipt(self, hash: bytes) -> dict[str, Any] | None:
        try:
            return dict(await self._w3.eth.get_transaction_receipt(hash))  # type: ignore[arg-type]
        except TransactionNotFound:
            return None

    async def _note(self, hash: bytes, receipt: dict[str, Any]) -> None:
        state = "mined" if receipt["status"] == 1 else "failed"
        async with self._db.write() as connection:
            await connection.execute(
                update(transactions)
                .where(transactions.c.hash == hash)
                .values(state=state, block=receipt["blockNumber"])
            )

    async def resend(self) -> int:
        """Send every journalled transaction that the chain does not have, in order of nonce; their number."""
        sender = self._account.address
        count = await self._w3.eth.get_transaction_count(sender, "latest")
        async with self._db.read() as connection:
            rows = (
                await connection.execute(
                    select(transactions)
                    .where(transactions.c.sender == sender.lower(), transactions.c.nonce >= count)
                    .order_by(transactions.c.nonce)
                )
            ).all()
        for row in rows:
            await self._submit(row)
        if rows:
            log.info("transaction.resent", count=len(rows), first_nonce=rows[0].nonce)
        return len(rows)
