"""Where the contracts keep what the gateway relies on: storage slots, and their values unpacked.

Solidity packs a struct's members from the low end of a word; a mapping's entry is at keccak(key . slot). A test holds
the slots to what the contracts themselves answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_utils.address import to_checksum_address

from bwgateway.chain.answers import Ledger, Stake, Standing
from bwrouter.agent.proofs import LEDGERS_SLOT, RELAYS_SLOT, STATES
from bwrouter.ledger.mpt import mapping_slot, offset_slot

DEPOSITS_SLOT = 5  # Settlement._deposits
STANDINGS_SLOT = 7  # BandwidthProof._standings
_128 = (1 << 128) - 1
_ADDRESS = (1 << 160) - 1


def _address(value: int) -> str:
    return "0x" + (value & _ADDRESS).to_bytes(20, "big").hex()


def _book(base: int, gateway: str, region: int) -> bytes:
    return bytes(mapping_slot(region.to_bytes(2, "big"), mapping_slot(bytes.fromhex(gateway[2:]), base)))


def relay(id: bytes) -> list[bytes]:
    """Slots of a relay's entry in StakeRegistry."""
    first = mapping_slot(id, RELAYS_SLOT)
    return [first, offset_slot(first, 1)]


def stake(id: bytes, values: Sequence[int]) -> Stake | None:
    """The entry, or None when the relay is not registered."""
    first, second = values
    state = second >> 208 & 0xFF
    if not state:
        return None
    return Stake(
        relay=id,
        owner=_checksum(first),
        payout=_checksum(second),
        region=second >> 192 & 0xFFFF,
        rate=second >> 160 & 0xFFFFFFFF,
        stake=first >> 160,
        state=STATES[state],
    )


def _checksum(value: int) -> str:
    return to_checksum_address(_address(value))


def deposit(gateway: str, region: int, account: str) -> list[bytes]:
    """Slots of a buyer's account in Settlement."""
    first = mapping_slot(bytes.fromhex(account[2:]), _book(DEPOSITS_SLOT, gateway, region))
    return [first, offset_slot(first, 1)]


def deposit_values(values: Sequence[int]) -> tuple[int, int, int]:
    """Wei paid in, spent by vouchers, under notice."""
    return values[0] & _128, values[0] >> 128, values[1] & _128


def ledger(gateway: str, region: int) -> list[bytes]:
    """Slots of a gateway's ledger in Settlement."""
    first = _book(LEDGERS_SLOT, gateway, region)
    return [offset_slot(first, i) for i in range(5)]


def ledger_values(values: Sequence[int]) -> Ledger:
    """The ledger."""
    head, root, pending, totals, spent = values
    return Ledger(
        token=_checksum(head),
        claimable_at=head >> 160 & (1 << 40) - 1,
        epoch=head >> 200 & 0xFFFFFFFF,
        root=root.to_bytes(32, "big"),
        pending_root=pending.to_bytes(32, "big"),
        total=totals & _128,
        pending_total=totals >> 128,
        spent=spent & _128,
        challenges=head >> 232,
    )


def standing(relay: bytes) -> list[bytes]:
    """Slots of a relay's standing in BandwidthProof."""
    first = mapping_slot(relay, STANDINGS_SLOT)
    return [first, offset_slot(first, 1)]


def standing_values(values: Sequence[int]) -> Standing:
    """The standing."""
    first, second = values
    return Standing(
        score=first >> 160 & 0xFFFF,
        kbps=first >> 32 & 0xFFFFFFFF,
        strikes=first >> 72 & 0xFF,
        audits=second >> 144 & 0xFFFFFFFF,
    )
