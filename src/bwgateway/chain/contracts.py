"""Reads and calls of the deployed contracts, with the errors of transport turned into ChainError."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import asdict
from itertools import islice
from statistics import median
from typing import Any, TypeVar

import aiohttp
from eth_account.signers.local import LocalAccount
from web3 import AsyncWeb3
from web3.exceptions import ContractLogicError, Web3Exception

from bwgateway import metrics
from bwgateway.chain import layout, proofs
from bwgateway.chain.answers import REASONS, ChainError, Challenge, Deposit, Ledger, Reverted, Stake, Standing, Verdict
from bwgateway.chain.anvil import Anvil, ChainDown
from bwgateway.chain.artifacts import Addresses, Artifacts, revert_reason
from bwgateway.chain.light import LightClient
from bwgateway.chain.sender import Sender
from bwgateway.settings import ChainSettings
from bwrouter.agent.proofs import BALANCES_SLOT
from bwrouter.ledger.mpt import mapping_slot

T = TypeVar("T")
COMPANY = 15  # stakes that one which is read takes along


def connect(url: str) -> AsyncWeb3[Any]:
    """A client of a JSON-RPC endpoint."""
    timeout = aiohttp.ClientTimeout(total=20)
    return AsyncWeb3(AsyncWeb3.AsyncHTTPProvider(url, request_kwargs={"timeout": timeout}))


class Contracts:
    """The chain as one gateway (the operator's account) sees it."""

    def __init__(
        self,
        w3: AsyncWeb3[Any],
        settings: ChainSettings,
        addresses: Addresses,
        artifacts: Artifacts,
        operator: LocalAccount,
        sender: Sender,
        node: Anvil | None,
        light: LightClient,
    ) -> None:
        self.w3 = w3
        self._light = light
        self.addresses = addresses
        self.sender = sender
        self.operator = operator
        self._settings = settings
        self._artifacts = artifacts
        self._node = node
        self._stakes: dict[bytes, tuple[float, Stake | None]] = {}  # when it was read, the oldest first
        self._asked: set[bytes] = set()  # since then
        self._token = self._at("BandwidthToken", addresses.token)
        self._registry = self._at("StakeRegistry", addresses.registry)
        self._settlement = self._at("Settlement", addresses.settlement)
        self._proof = self._at("BandwidthProof", addresses.proof) if addresses.proof else None

    def _at(self, name: str, address: str) -> Any:
        return self.w3.eth.contract(address=AsyncWeb3.to_checksum_address(address), abi=self._artifacts.abi(name))

    async def ask(self, question: Awaitable[T]) -> T:
        """Await an RPC. Raises Reverted with the contract's reason, or ChainError."""
        try:
            return await question
        except ChainError:
            raise
        except ContractLogicError as e:
            raise Reverted(revert_reason(self._artifacts, str(e.data or e))) from e
        except (TimeoutError, Web3Exception, aiohttp.ClientError, OSError, ChainDown, ValueError) as e:
            metrics.chain_errors.labels(type(e).__name__).inc()
            raise ChainError(f"{type(e).__name__}: {e}") from e

    # --- reads ---

    async def block(self) -> int:
        """Number of the newest block."""
        number = int(await self.ask(self.w3.eth.block_number))
        metrics.chain_block.set(number)
        return number

    async def now(self) -> int:
        """Time of the newest block, unix seconds: what the contracts will judge by."""
        return int((await self.ask(self.w3.eth.get_block("latest")))["timestamp"])

    async def describe(self) -> dict[str, Any]:
        """`account`, `chain_id` and `contracts` of /v1/info."""
        a = asdict(self.addresses)
        contracts = {k: a[k] for k in ("token", "registry", "settlement", "factory", "proof", "emission", "regions")}
        return {"account": self.operator.address, "chain_id": self.addresses.chain_id, "contracts": contracts}

    async def stake(self, relay: bytes, fresh: bool = False) -> Stake | None:
        """The relay's entry in StakeRegistry, or None. One that is read for its age takes others along."""
        at, known = self._stakes.get(relay, (0.0, None))
        if not fresh and time.monotonic() - at < self._settings.stake_cache_seconds:
            self._asked.add(relay)
            return known
        group = [relay] if fresh else [relay, *(r for r in self._ageing() if r != relay)]
        each = [layout.relay(r) for r in group]
        slots = [slot for one in each for slot in one]
        _, values = await self.ask(self._light.read(self.addresses.registry, slots))
        if len(self._stakes) > 100_000:
            self._stakes.clear()
            self._asked.clear()
        left, now = iter(values), time.monotonic()
        for r, one in zip(group, each, strict=True):
            self._stakes.pop(r, None)  # so that the oldest stay first
            self._stakes[r] = (now, layout.stake(r, list(islice(left, len(one)))))
        return self._stakes[relay][1]

    def _ageing(self) -> list[bytes]:
        """Relays whose stakes were asked for since they were read, and that is half of the time ago that they are
        believed; of the oldest. One proof for many costs no more requests than for one."""
        believed, now = self._settings.stake_cache_seconds, time.monotonic()
        found: list[bytes] = []
        for relay, (at, _) in list(islice(self._stakes.items(), 4 * COMPANY)):
            if now - at < believed / 2 or len(found) == COMPANY:
                break
            if relay in self._asked:
                self._asked.discard(relay)  # another read does not take it along, too
                found.append(relay)
            elif now - at >= believed:
                del self._stakes[relay]
        return found

    async def deposit(self, account: str, region: int) -> Deposit:
        """What `account` has with this gateway, at a block that can't be lost any more."""
        slots = layout.deposit(self.operator.address, region, account)
        head, values = await self.ask(self._light.read(self.addresses.settlement, slots))
        if self._node is not None:
            await self.ask(self._node.make_durable())
        paid_in, spent, leaving = layout.deposit_values(values)
        return Deposit(head.number, paid_in, spent, leaving)

    async def nonces(self, address: str) -> dict[str, int]:
        """Next EIP-712 nonces: `register` of StakeRegistry, `permit` of BWT."""
        who = AsyncWeb3.to_checksum_address(address)
        register, permit = await asyncio.gather(
            self.ask(self._registry.functions.nonces(who).call()), self.ask(self._token.functions.nonces(who).call())
        )
        return {"register": register, "permit": permit}

    async def ledger(self, region: int) -> Ledger:
        """Settlement's ledger of this gateway in a region."""
        slots = layout.ledger(self.operator.address, region)
        _, values = await self.ask(self._light.read(self.addresses.settlement, slots))
        return layout.ledger_values(values)

    async def claimed(self, region: int, payout: str, block: int | None = None) -> int:
        """What Settlement has paid to `payout` for this gateway, wei."""
        call = self._settlement.functions.claimed(self.operator.address, region, AsyncWeb3.to_checksum_address(payout))
        return int(await self.ask(call.call(block_identifier="latest" if block is None else block)))

    async def balance(self, region: int, account: str) -> int:
        """Region tokens that `account` holds, wei; zero for a region without token."""
        contracts = self.addresses.regions.get(str(region))
        if contracts is None:
            return 0
        token = self._at("RegionToken", contracts["token"])
        return int(await self.ask(token.functions.balanceOf(AsyncWeb3.to_checksum_address(account)).call()))

    async def reserves(self, region: int) -> tuple[int, int]:
        """The pool's reserves, wei: BWT and the region's token; zeros for a region without pool."""
        contracts = self.addresses.regions.get(str(region))
        if contracts is None:
            return 0, 0
        pool = self._at("LiquidityPool", contracts["pool"])
        bwt, token = (await self.ask(pool.functions.reserves().call()))[:2]
        return int(bwt), int(token)

    async def phi_bps(self) -> int:
        """The burned share of use, basis points, as Settlement computes it."""
        gross = int(await self.ask(self._settlement.functions.grossOf(10**18).call()))
        return 10_000 - round(10**22 / gross)

    async def mint_key(self, key_id: bytes) -> bytes:
        """Public key registered under `key_id` by this gateway; zeros: none."""
        call = self._settlement.functions.mintKey(self.operator.address, key_id)
        return bytes((await self.ask(call.call()))[0])

    async def epoch_seconds(self) -> int:
        """Length of a settlement epoch, as deployed."""
        return int(await self.ask(self._settlement.functions.epochSeconds().call()))

    async def withdrawals(self, since: int, until: int) -> list[tuple[int, str]]:
        """(region, account) of every withdrawal notice at this gateway in a range of blocks."""
        event = self._settlement.events.WithdrawalRequested
        logs = await self.ask(
            event.get_logs(from_block=since, to_block=until, argument_filters={"gateway": self.operator.address})
        )
        return [(entry["args"]["region"], entry["args"]["account"].lower()) for entry in logs]

    async def block_of(self, hash: bytes | None) -> int:
        """Number of the block that holds a transaction; that of the deployment where it is not known."""
        try:
            return int((await self.ask(self.w3.eth.get_transaction_receipt(hash)))["blockNumber"])  # type: ignore[arg-type]
        except ChainError:
            return self.addresses.block

    async def challenges(self, region: int, since: int) -> list[Challenge]:
        """Challenges of this gateway's pending root that are open, among those made since a block."""
        mine = self.operator.address
        event = self._settlement.events.RootChallenged
        logs = await self.ask(event.get_logs(from_block=since, argument_filters={"gateway": mine, "region": region}))
        open_ = []
        for entry in logs:
            account, deadline = entry["args"]["account"], entry["args"]["deadline"]
            now = await self.ask(self._settlement.functions.challengeOf(mine, region, account).call())
            if now[1] == deadline:  # answered ones are gone
                open_.append(Challenge(account, int(now[3]), int(deadline)))
        return open_

    async def standing(self, relay: bytes) -> Standing:
        """What audits have found of a relay; all zero before the first, and where there is no BandwidthProof."""
        if self._proof is None:
            return Standing(0, 0, 0, 0)
        _, values = await self.ask(self._light.read(self.addresses.proof, layout.standing(relay)))
        return layout.standing_values(values)

    async def verdicts(self, since: int, until: int) -> list[Verdict]:
        """Verdicts of all relays in a range of blocks."""
        if self._proof is None:
            return []
        logs = await self.ask(self._proof.events.Verdict.get_logs(from_block=since, to_block=until))
        return [await self._verdict(entry) for entry in logs]

    async def _verdict(self, entry: Any) -> Verdict:
        assert self._proof is not None
        a = entry["args"]
        which = {"relayId": a["relayId"], "epoch": a["epoch"]}
        # Reports are revealed in the audit epoch that the verdict names, which lies before it.
        revealed = await self.ask(
            self._proof.events.Revealed.get_logs(
                from_block=self.addresses.block, to_block=entry["blockNumber"], argument_filters=which
            )
        )
        reports = [int(r["args"]["report"]) for r in revealed]
        return Verdict(
            relay=bytes(a["relayId"]),
            epoch=int(a["epoch"]),
            reason=REASONS[int(a["reason"])],
            kbps=int(a["kbps"]),
            reveals=int(a["reveals"]),
            votes=int(a["votes"]),
            strikes=int(a["strikes"]),
            block=int(entry["blockNumber"]),
            latency_ms=int(median(r >> 32 & 0xFFFF for r in reports)) if reports else None,
            loss_bps=int(median(r >> 48 & 0xFFFF for r in reports)) if reports else None,
            claimed_kbps=await self._claim(a["relayId"], entry["blockNumber"] - 1),
            time=int((await self.ask(self.w3.eth.get_block(entry["blockNumber"])))["timestamp"]),
        )

    async def _claim(self, relay: bytes, block: int) -> int:
        """The rate that the relay's stake said before a block; as it is now where the node keeps no old states."""
        call = self._registry.functions.relay(relay)
        try:
            return int((await self.ask(call.call(block_identifier=block)))[3])
        except (ChainError, Reverted):
            return int((await self.ask(call.call()))[3])

    async def revealed(self, relay: bytes, epoch: int, verifier: str) -> int | None:
        """The report that a verifier revealed in an audit, packed; None: it revealed none."""
        if self._proof is None:
            return None
        which = {"relayId": relay, "epoch": epoch, "verifier": AsyncWeb3.to_checksum_address(verifier)}
        found = await self.ask(
            self._proof.events.Revealed.get_logs(from_block=self.addresses.block, argument_filters=which)
        )
        return int(found[0]["args"]["report"]) if found else None

    async def proofs(self, relay: bytes, region: int, payout: bytes, wallet: bytes | None = None) -> dict[str, Any]:
        """Header of the newest block and proofs of `proofs.slots` under it, for GET /v1/proofs; with `wallet` (20
        bytes) also of the BWT that it holds."""
        registry, settlement = proofs.slots(relay, bytes.fromhex(self.operator.address[2:]), region, payout)
        accounts = [(self.addresses.registry, registry), (self.addresses.settlement, settlement)]
        if wallet is not None:
            accounts.append((self.addresses.token, [mapping_slot(wallet, BALANCES_SLOT)]))
        found = await self.ask(proofs.at_block(self.w3, await self.block(), accounts))
        parts = zip(("registry", "settlement", "token"), found["proofs"], strict=False)
        return {"header": found["header"], **dict(parts)}

    # --- transactions ---

    async def _send(self, purpose: str, contract: Any, name: str, arguments: list[Any]) -> bytes:
        data = contract.encode_abi(name, args=arguments)
        try:
            return await self.ask(self.sender.send(purpose, contract.address, data))
        except Reverted as e:
            raise Reverted(revert_reason(self._artifacts, str(e))) from e

    async def outcome(self, hash: bytes, seconds: float) -> bool | None:
        """Whether a sent transaction succeeded; None: not mined yet after `seconds`."""
        receipt = await self.ask(self.sender.outcome(hash, seconds))
        return None if receipt is None else receipt["status"] == 1

    async def settled(self) -> None:
        """Make what was mined durable, where the node is ours."""
        if self._node is not None:
            await self.ask(self._node.make_durable())

    async def register(self, purpose: str, r: dict[str, Any]) -> bytes:
        """StakeRegistry.register with the owner's signatures."""
        registration = (
            r["relay"],
            AsyncWeb3.to_checksum_address(r["owner"]),
            AsyncWeb3.to_checksum_address(r["payout"]),
            r["region"],
            r["rate_kbps"],
            r["stake"],
            r["deadline"],
        )
        return await self._send(purpose, self._registry, "register", [registration, r["sig"], r["permit_sig"]])

    async def decide(self, purpose: str, name: str, arguments: list[Any]) -> bytes:
        """StakeRegistry.setPayout, setRate or unstake with the owner's signature."""
        given = [AsyncWeb3.to_checksum_address(a) if isinstance(a, str) else a for a in arguments]
        return await self._send(purpose, self._registry, name, given)

    async def post_root(self, region: int, epoch: int, root: bytes, total: int) -> bytes:
        """Settlement.postRoot."""
        purpose = f"post:{region}:{epoch}"
        return await self._send(purpose, self._settlement, "postRoot", [region, epoch, root, total])

    async def answer(self, region: int, challenge: Challenge, cumulative: int, proof: list[bytes]) -> bytes:
        """Settlement.answer with the leaf that honours the challenge's receipt."""
        arguments = [self.operator.address, region, challenge.account, cumulative, proof]
        purpose = f"answer:{region}:{challenge.deadline}:{challenge.account.lower()}"
        return await self._send(purpose, self._settlement, "answer", arguments)

    async def claim_many(self, purpose: str, region: int, claims: list[tuple[str, int, list[bytes]]]) -> bytes:
        """Settlement.claimMany of (payout, cumulative wei, proof)."""
        accounts = [AsyncWeb3.to_checksum_address(c[0]) for c in claims]
        arguments = [self.operator.address, region, accounts, [c[1] for c in claims], [c[2] for c in claims]]
        return await self._send(purpose, self._settlement, "claimMany", arguments)

    async def charge(self, purpose: str, region: int, vouchers: list[tuple[str, int, bytes]]) -> bytes:
        """Settlement.charge with vouchers (account, cumulative wei, signature)."""
        accounts = [AsyncWeb3.to_checksum_address(v[0]) for v in vouchers]
        arguments = [region, accounts, [v[1] for v in vouchers], [v[2] for v in vouchers]]
        return await self._send(purpose, self._settlement, "charge", arguments)

    async def register_mint_key(self, key: Any) -> bytes:
        """Settlement.registerMintKey."""
        arguments = [key.id, key.public, key.region, key.units, key.epoch, key.expires]
        return await self._send(f"mint-key:{key.id.hex()}", self._settlement, "registerMintKey", arguments)
