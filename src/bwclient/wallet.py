"""The buyer's wallet: BWT -> region token on the pool -> deposit with the gateway -> blind tickets.

Every step is decided by what chain and gateway show, so a wallet that crashed goes on where it was (`buy` again);
an issue that may have been paid is finished by `recover`, which the constructor calls.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from eth_account.messages import encode_defunct

from bwclient import oprf
from bwclient.chain import Chain, ChainError
from bwclient.desk import Desk, Refused, WalletError
from bwclient.files import read_json, write_json
from bwclient.tickets import Store, Ticket, chain

UNIT_WEI = 10**18 // 16_384
BATCH = 256
"""Most tickets in one issue."""
REFUND_UNITS = 64
"""Denomination in which the rest of a ticket comes back."""
_DEADLINE_SECONDS = 600
_SPEND = {
    "Spend": [
        {"name": "gateway", "type": "address"},
        {"name": "region", "type": "uint16"},
        {"name": "account", "type": "address"},
        {"name": "cumulative", "type": "uint256"},
    ]
}


@dataclass(frozen=True)
class Quote:
    """Price of `token_wei` of a region's token: BWT wei, and how far above the spot price, basis points."""

    token_wei: int
    bwt_wei: int
    impact_bps: int


class Wallet:
    """One buyer's key at one gateway; tickets live in `folder`. `gateway_key`: the Ed25519 key that must answer."""

    def __init__(
        self, key: bytes, gateway_url: str, rpc_url: str, folder: Path, gateway_key: bytes | None = None
    ) -> None:
        self.chain = Chain(rpc_url, key)
        self.address = self.chain.address
        self.store = Store(folder)
        self._url = gateway_url.rstrip("/")
        self._desk = Desk(self._url)
        self.info = self._know(folder / "gateway.json", gateway_key)
        self.gateway: str = self.info["account"]
        self._settlement: str = self.info["contracts"]["settlement"]
        self.recover()

    # --- the gateway ---

    def _know(self, file: Path, key: bytes | None) -> dict[str, Any]:
        """The gateway's account and contracts; as it told them last when it can't be reached. Raises WalletError."""
        before = read_json(file)
        try:
            info: dict[str, Any] = self._get("/v1/info")
        except WalletError:
            if key is None or before.get("gateway_key") != key.hex():
                raise
            return before
        if key is not None and info["gateway_key"] != key.hex():
            raise WalletError(f"gateway {self._url} has key {info['gateway_key']}, expected {key.hex()}")
        if info != before:
            write_json(file, info)
        return info

    def _get(self, path: str) -> Any:
        """A read; asked again while the gateway says that it can't just now (503)."""
        for pause in (0.5, 1.0, 2.0, None):
            try:
                return self._desk.ask("GET", path)
            except Refused as e:
                if e.status != 503 or pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._desk.ask("POST", path, body)

    def _contracts(self, region: int) -> tuple[str, str]:
        entry = self.info["contracts"]["regions"].get(str(region))
        if entry is None:
            raise WalletError(f"region {region} has no pool at this gateway")
        return entry["token"], entry["pool"]

    def account(self, region: int) -> tuple[int, int]:
        """(balance, issued) at the gateway, wei."""
        answer = self._get(f"/v1/accounts/{self.address}/{region}")
        return int(answer["balance_wei"]), int(answer["issued_wei"])

    def _now(self) -> int:
        """Unix seconds, by the later of two clocks: a deadline by a late one would have passed on the chain."""
        newest = int(self.chain.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        return max(newest, int(time.time()))

    # --- buying ---

    def quote(self, region: int, token_wei: int) -> Quote:
        """What `token_wei` of the region's token costs now."""
        _, pool = self._contracts(region)
        bwt = self.info["contracts"]["token"]
        cost, impact = self.chain.call(pool, "quoteExactOut(address,uint256)", ["uint256", "uint256"], bwt, token_wei)
        return Quote(token_wei, cost, impact)

    def swap(self, region: int, token_wei: int, slippage_bps: int = 100, impact_bps: int = 10_000) -> int:
        """Buy exactly `token_wei`, for at most the quote and `slippage_bps` more, unless that moves the price by more
        than `impact_bps`; BWT wei offered at most."""
        _, pool = self._contracts(region)
        bwt = self.info["contracts"]["token"]
        quote = self.quote(region, token_wei)
        if quote.impact_bps > impact_bps:
            raise WalletError(
                f"buying {token_wei} wei of region {region}'s token would move its price by "
                f"{quote.impact_bps / 100:.2f} %, the limit is {impact_bps / 100:.2f} %: buy less at a time, or raise "
                "max_impact_pct"
            )
        most = quote.bwt_wei * (10_000 + slippage_bps) // 10_000
        held = self.chain.balance(bwt)
        if held < most:
            raise WalletError(f"{self.address} holds {held} wei of BWT, the swap may take {most}; add BWT")
        if self.chain.allowance(bwt, pool) < most:
            self.chain.send(bwt, "approve(address,uint256)", pool, most)
        deadline = self._now() + _DEADLINE_SECONDS
        self.chain.send(
            pool,
            "swapExactOut(address,uint256,uint256,address,uint256)",
            *(bwt, token_wei, most, self.address, deadline),
        )
        return most

    def deposit(self, region: int, token_wei: int) -> str:
        """Deposit region tokens with the gateway, by permit; the transaction's hash."""
        token, _ = self._contracts(region)
        deadline = self._now() + _DEADLINE_SECONDS
        permit = self.chain.permit(token, self._settlement, token_wei, deadline)
        return self.chain.send(
            self._settlement,
            "depositWithPermit(address,uint16,address,uint256,uint256,bytes)",
            *(self.gateway, region, self.address, token_wei, deadline, permit),
        )

    def wait_for_credit(self, region: int, token_wei: int, seconds: float = 60.0) -> int:
        """Wait until the gateway shows a balance of `token_wei`; the balance, wei."""
        deadline = time.monotonic() + seconds
        while (balance := self.account(region)[0]) < token_wei:
            if time.monotonic() > deadline:
                raise WalletError(f"the gateway credits {balance} wei after {seconds:.0f} s, {token_wei} are needed")
            time.sleep(0.2)
        return balance

    def buy(
        self, region: int, units: int, count: int, slippage_bps: int = 100, impact_bps: int = 10_000
    ) -> list[Ticket]:
        """`count` tickets of `units`: deposits what the balance lacks, swaps what the deposit lacks, issues."""
        need = units * count * UNIT_WEI
        lacking = need - self.account(region)[0]
        if lacking > 0:
            token, _ = self._contracts(region)
            held = self.chain.balance(token)
            if held < lacking:
                self.swap(region, lacking - held, slippage_bps, impact_bps)
            self.deposit(region, lacking)
            self.wait_for_credit(region, need)
        return self.issue(region, units, count)

    def withdraw(self, region: int) -> dict[str, Any]:
        """Take the deposit back for which no ticket was issued: give notice, and fetch it when it is due.

        `state`: `none`, `requested`, `waiting` (due in `seconds`), `done`; `wei`. What was issued stays, though its
        vouchers may not be on chain yet: asking for it would only make the gateway bring them.
        """
        paid_in, spent, leaving, due_at = (int(x) for x in self.chain.call(
            self._settlement, "depositOf(address,uint16,address)", ["uint128", "uint128", "uint128", "uint40"],
            self.gateway, region, self.address,
        ))  # fmt: skip
        if leaving:
            seconds = max(0, due_at - self._now())
            if seconds:
                return {"state": "waiting", "wei": str(leaving), "seconds": seconds}
            self.chain.send(self._settlement, "withdraw(address,uint16)", self.gateway, region)
            return {"state": "done", "wei": str(min(leaving, paid_in - spent)), "seconds": 0}
        free = min(self.account(region)[0], paid_in - spent)
        if free <= 0:
            return {"state": "none", "wei": "0", "seconds": 0}
        self.chain.send(self._settlement, "requestWithdrawal(address,uint16,uint256)", self.gateway, region, free)
        (notice,) = self.chain.call(self._settlement, "withdrawalSeconds()", ["uint256"])
        return {"state": "requested", "wei": str(free), "seconds": int(notice)}

    # --- tickets ---

    def issue(self, region: int, units: int, count: int) -> list[Ticket]:
        """`count` tickets of `units` out of the balance, stored before they are returned."""
        tickets: list[Ticket] = []
        while len(tickets) < count:
            tickets += self._issue(region, units, min(BATCH, count - len(tickets)))
        return tickets

    def _issue(self, region: int, units: int, count: int) -> list[Ticket]:
        seed, body = self.prepare(region, units, count, self.account(region)[1])
        pending = self.store.begin(str(body["nonce"]), {"seed": seed.hex(), "body": body})
        return self._finish(pending, seed, body)

    def prepare(self, region: int, units: int, count: int, issued: int) -> tuple[bytes, dict[str, Any]]:
        """A signed issue that follows `issued` wei, and the seed of its secrets; nothing is sent or stored."""
        seed = secrets.token_bytes(32)
        body = {
            "account": self.address,
            "region": region,
            "units": units,
            "blinded": [b.hex() for b in _blinded(seed, units, count)],
            "voucher": self._voucher(region, issued + units * count * UNIT_WEI).hex(),
            "time": int(time.time()),
            "nonce": secrets.token_hex(16),
        }
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        message = encode_defunct(f"bwrouter/1 /v1/issue\n{text}".encode())
        body["sig"] = bytes(self.chain.account.sign_message(message).signature).hex()
        return seed, body

    def _voucher(self, region: int, cumulative: int) -> bytes:
        domain = {
            "name": "bwrouter Settlement",
            "version": "1",
            "chainId": self.info["chain_id"],
            "verifyingContract": self._settlement,
        }
        message = {"gateway": self.gateway, "region": region, "account": self.address, "cumulative": cumulative}
        return bytes(self.chain.account.sign_typed_data(domain, _SPEND, message).signature)

    def _finish(self, pending: Path, seed: bytes, body: dict[str, Any], path: str = "/v1/issue") -> list[Ticket]:
        """Send an issue or a refund (again) and keep its tickets. A refusal means that it had no effect."""
        try:
            answer = self._post(path, body)
        except Refused as e:
            if e.status < 500:
                self.store.drop(pending)
            raise
        tickets = self._unblind(seed, body, answer)
        self.store.finish(pending, tickets)
        return tickets

    # --- refunds ---

    def reclaim(self, region: int, most: int = 256) -> list[Ticket]:
        """New tickets for what is left of those that were handed out; only while no tunnel uses them.

        Tickets that are still open at the gateway are asked about again another time.
        """
        gained: list[Ticket] = []
        for ticket in self.store.handed_out(region)[:most]:
            gained += self.reclaim_one(ticket) or ()
        return gained

    def reclaim_one(self, ticket: Ticket) -> list[Ticket] | None:
        """New tickets for what is left of a ticket that no circuit uses any more; None while it is open at the gateway.

        One request a ticket: naming several together would tell the gateway that they have one owner.
        """
        left = self._left(ticket)
        if left is None:
            return None
        gained: list[Ticket] = []
        units = ticket.units if left == ticket.units else REFUND_UNITS
        if left >= units:
            try:
                gained = self._refund(ticket, units, left // units)
            except Refused as e:
                if e.code == "open":
                    return None
                if e.code not in ("rest", "ticket"):
                    raise
        self.store.forget(ticket)
        return gained

    def _left(self, ticket: Ticket) -> int | None:
        """Units that can be had back; None while the ticket is open and not used up. A ticket that no relay opened is
        whole."""
        try:
            state = self._get(f"/v1/tickets/{ticket.id.hex()}")
        except Refused as e:
            if e.code == "unknown":
                return ticket.units
            raise
        left = int(state["left"])
        return left if not left or int(state["refundable_at"]) <= time.time() else None

    def _refund(self, ticket: Ticket, units: int, count: int) -> list[Ticket]:
        seed = secrets.token_bytes(32)
        shown = {
            "key": ticket.key_id.hex(),
            "output": ticket.output.hex(),
            "units": ticket.units,
            "top": ticket.top.hex(),
        }
        blinded = [b.hex() for b in _blinded(seed, units, count)]
        body = {"region": ticket.region, "units": units, "tickets": [shown], "blinded": blinded}
        document = {"path": "/v1/refund", "seed": seed.hex(), "body": body}
        pending = self.store.begin(secrets.token_hex(16), document)
        return self._finish(pending, seed, body, "/v1/refund")

    def recover(self) -> int:
        """Finish issues and refunds that a crash left open; the number of tickets gained.

        What can't be finished now (`unfinished` says why) stays pending, unless the gateway says that it had no effect.
        """
        gained = 0
        self.unfinished: list[str] = []
        for pending in self.store.pending():
            document = json.loads(pending.read_text(encoding="ascii"))
            try:
                path = document.get("path", "/v1/issue")
                gained += len(self._finish(pending, bytes.fromhex(document["seed"]), document["body"], path))
            except (WalletError, ChainError, oprf.BadProof, oprf.BadElement) as e:
                self.unfinished.append(f"{pending.name}: {e}")
        return gained

    def _unblind(self, seed: bytes, body: dict[str, Any], answer: dict[str, Any]) -> list[Ticket]:
        units, region, count = body["units"], body["region"], len(body["blinded"])
        key_id = bytes.fromhex(answer["key_id"])
        public = self._public_key(key_id, region, units)
        evaluated = [bytes.fromhex(e) for e in answer["evaluated"]]
        blinded = [bytes.fromhex(b) for b in body["blinded"]]
        oprf.verify(public, blinded, evaluated, bytes.fromhex(answer["proof"]))
        tickets = []
        for i in range(count):
            top, anchor, r = _secrets(seed, units, i)
            output = oprf.finalise(sha256(anchor).digest(), r, evaluated[i])
            tickets.append(Ticket(key_id, output, units, top, region))
        return tickets

    def _public_key(self, key_id: bytes, region: int, units: int, seconds: float = 30.0) -> bytes:
        """The mint key as committed on chain: the same for all buyers, so that a ticket can't be marked by its key."""
        deadline = time.monotonic() + seconds
        while True:
            public, on_region, on_units, _, _ = self.chain.call(
                self._settlement,
                "mintKey(address,bytes8)",
                ["bytes32", "uint16", "uint16", "uint32", "uint64"],
                *(self.gateway, key_id),
            )
            if any(public):
                break
            if time.monotonic() > deadline:
                raise WalletError(f"mint key {key_id.hex()} is not committed on chain; the tickets stay pending")
            time.sleep(0.5)
        if sha256(public).digest()[:8] != key_id or (on_region, on_units) != (region, units):
            raise WalletError(f"mint key {key_id.hex()} is for region {on_region}, {on_units} units")
        return bytes(public)

    def take(self, region: int, units: int | None = None) -> Ticket:
        """An unspent ticket, marked as handed out. Raises WalletError when there is none."""
        for ticket in self.store.unspent(region):
            if units is None or ticket.units == units:
                return self.store.take(ticket)
        raise WalletError(f"no unspent ticket for region {region}; buy more")


def _secrets(seed: bytes, units: int, i: int) -> tuple[bytes, bytes, int]:
    """w_N, w_0 and the blind of ticket `i`, all out of the issue's seed."""
    own = seed + i.to_bytes(4, "big")
    top = sha256(b"bwrouter/1 top" + own).digest()
    return top, chain(top, units)[0], oprf.scalar(own)


def _blinded(seed: bytes, units: int, count: int) -> Sequence[bytes]:
    elements = []
    for i in range(count):
        _, anchor, r = _secrets(seed, units, i)
        elements.append(oprf.blind(sha256(anchor).digest(), r))
    return elements


__all__ = ["UNIT_WEI", "Chain", "ChainError", "Quote", "Refused", "Ticket", "Wallet", "WalletError"]
