"""The light client's state and its one transition: an update that the sync committee has signed.

A trusted block root gives the first committee; each committee signs for the next one. Nothing counts with less than two
thirds of a committee behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bwgateway.beacon.bls import fast_aggregate_verify
from bwgateway.beacon.network import COMMITTEE, PERIOD_SLOTS, Network
from bwgateway.beacon.ssz import branch_holds
from bwgateway.beacon.types import BadUpdate, Bootstrap, Committee, Header, Update

QUORUM = -(-COMMITTEE * 2 // 3)
_EXECUTION = 25
_CLOCK_SLOTS = 1
# Generalised indices in BeaconState before Electra, and from it on.
_CURRENT, _NEXT, _FINALIZED = (54, 86), (55, 87), (105, 169)


@dataclass(frozen=True)
class Store:
    """What is known. `optimistic` is the newest header that a committee has signed, `finalized` the newest final one;
    `following` is the committee of the next period, once known."""

    network: Network
    finalized: Header
    optimistic: Header
    committee: Committee
    following: Committee | None = None

    @property
    def period(self) -> int:
        """The period that `committee` serves."""
        return self.finalized.beacon.slot // PERIOD_SLOTS


def _gindex(network: Network, pair: tuple[int, int], slot: int) -> int:
    return pair[network.at_least(slot, "electra")]


def _check_header(network: Network, header: Header) -> None:
    """The execution header must be in the block that the beacon header names. Raises BadUpdate."""
    slot = header.beacon.slot
    if not network.at_least(slot, "altair"):
        raise BadUpdate(f"slot {slot} lies before Altair")
    if not network.at_least(slot, "capella"):
        if header.execution is not None:
            raise BadUpdate("an execution header before Capella")
        return
    if header.execution is None:
        raise BadUpdate("no execution header, though there is one since Capella")
    deneb = network.at_least(slot, "deneb")
    if not deneb and not header.execution.blobless:
        raise BadUpdate("blobs before Deneb")
    root = header.execution.deneb_root if deneb else header.execution.capella_root
    if not branch_holds(root, header.branch, _EXECUTION, header.beacon.body_root):
        raise BadUpdate(f"slot {slot}: its execution header is not in the block")


def begin(network: Network, trusted: bytes, bootstrap: Bootstrap) -> Store:
    """The store at a trusted block root (32 bytes). Raises BadUpdate."""
    header = bootstrap.header
    if header.beacon.root != trusted:
        raise BadUpdate(f"the bootstrap is for block {header.beacon.root.hex()}, not for {trusted.hex()}")
    _check_header(network, header)
    gindex = _gindex(network, _CURRENT, header.beacon.slot)
    if not branch_holds(bootstrap.committee.root, bootstrap.branch, gindex, header.beacon.state_root):
        raise BadUpdate("the bootstrap's committee is not that of its state")
    return Store(network, header, header, bootstrap.committee)


def _check_signature(store: Store, update: Update) -> None:
    period = update.signature_slot // PERIOD_SLOTS
    if period == store.period:
        committee: Committee | None = store.committee
    elif period == store.period + 1:
        committee = store.following
    else:
        raise BadUpdate(f"signed in period {period}, known are {store.period} and the next")
    if committee is None:
        raise BadUpdate(f"signed in period {period}, whose committee is not known yet")
    signers = update.signers(committee)
    if len(signers) < QUORUM:
        raise BadUpdate(f"{len(signers)} of {COMMITTEE} signed, {QUORUM} are needed")
    message = store.network.signing_root(update.attested.beacon.root, update.signature_slot)
    if not fast_aggregate_verify(signers, message, update.signature):
        raise BadUpdate("the committee's signature does not hold")


def check(store: Store, update: Update, now: float) -> None:
    """validate_light_client_update of the specification. `now`: unix seconds. Raises BadUpdate."""
    network, attested = store.network, update.attested
    finalized_slot = update.finalized.beacon.slot if update.finalized else 0
    latest = network.slot(now) + _CLOCK_SLOTS
    if not latest >= update.signature_slot > attested.beacon.slot >= finalized_slot:
        slots = f"now {latest}, signed {update.signature_slot}, attested {attested.beacon.slot}, final {finalized_slot}"
        raise BadUpdate(f"its slots are out of order: {slots}")
    _check_header(network, attested)
    state_root, slot = attested.beacon.state_root, attested.beacon.slot
    if update.finalized is not None:
        _check_header(network, update.finalized)
        gindex = _gindex(network, _FINALIZED, slot)
        if not branch_holds(update.finalized.beacon.root, update.finality_branch, gindex, state_root):
            raise BadUpdate("its finalized header is not that of its state")
    if update.next_committee is not None:
        if slot // PERIOD_SLOTS == store.period and store.following not in (None, update.next_committee):
            raise BadUpdate("another next committee than the one that is known")
        gindex = _gindex(network, _NEXT, slot)
        if not branch_holds(update.next_committee.root, update.next_branch, gindex, state_root):
            raise BadUpdate("its next committee is not that of its state")
    _check_signature(store, update)


def apply(store: Store, update: Update, now: float) -> Store:
    """The store after an update; unchanged when it brings nothing new. Raises BadUpdate."""
    check(store, update, now)
    if update.attested.beacon.slot > store.optimistic.beacon.slot:
        store = replace(store, optimistic=update.attested)
    final = update.finalized
    # A committee counts once a header of its period is final: else a fork could choose it.
    attested_period = update.attested.beacon.slot // PERIOD_SLOTS
    final_period = final.beacon.slot // PERIOD_SLOTS if final else -1
    if (
        store.following is None
        and update.next_committee is not None
        and attested_period == store.period == final_period
    ):
        store = replace(store, following=update.next_committee)
    if final is None or final.beacon.slot <= store.finalized.beacon.slot:
        return store
    if final_period == store.period + 1:
        if store.following is None:
            return store  # the update of the period before must come first
        following = update.next_committee if attested_period == final_period else None
        store = replace(store, committee=store.following, following=following)
    elif final_period != store.period:
        return store
    store = replace(store, finalized=final)
    if final.beacon.slot > store.optimistic.beacon.slot:
        store = replace(store, optimistic=final)
    return store
