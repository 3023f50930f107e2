"""What the chain says of this router, proved: the router believes no gateway about its own stake and earnings.

A gateway's answer to GET /v1/proofs carries a block header and EIP-1186 proofs under its state root. What is left to
trust is that the header is the chain's; `Heads` holds gateways against each other. Slots are those of the contracts'
storage layout; a test holds them to the compiler's.
"""

from ..ledger import eip712, merkle, mpt, rlp
from ..ledger.keccak import keccak256
from . import registration

RELAYS_SLOT = 5  # StakeRegistry._relays
LEDGERS_SLOT = 4  # Settlement._ledgers
BALANCES_SLOT = 0  # ERC20._balances of BWT
HEAD_OFFSET, ROOT_OFFSET, PENDING_OFFSET, TOTAL_OFFSET, CLAIMED_OFFSET = 0, 1, 2, 3, 5  # members of Settlement's Ledger
STATES = ("none", "active", "suspended", "unbonding")
_WRONG = (KeyError, TypeError, AttributeError, ValueError)  # what an answer that is not of its form ends in


class Unproved(ValueError):
    """An answer that its own proofs do not bear out; the text says which part."""


def _unproved(error):
    """The Unproved that tells of a _WRONG."""
    if isinstance(error, mpt.ProofError):
        return Unproved("proof: " + str(error))
    return Unproved(str(error) if isinstance(error, ValueError) else "answer: " + str(error))


def slots(relay, gateway, region, payout):
    """(slots of StakeRegistry, slots of Settlement) that are proved, in their order, each 32 bytes."""
    entry = mpt.mapping_slot(relay, RELAYS_SLOT)
    place = region.to_bytes(2, "big")
    book = mpt.mapping_slot(place, mpt.mapping_slot(gateway, LEDGERS_SLOT))
    paid = mpt.mapping_slot(payout, mpt.offset_slot(book, CLAIMED_OFFSET))
    ledger = [mpt.offset_slot(book, offset) for offset in (HEAD_OFFSET, ROOT_OFFSET, PENDING_OFFSET, TOTAL_OFFSET)]
    return [entry, mpt.offset_slot(entry, 1)], ledger + [paid]


def header(raw):
    """(hash, number, unix time, state root) of a block header's RLP. Raises Unproved."""
    try:
        fields = rlp.decode(raw)
        if not isinstance(fields, list) or len(fields) < 15 or len(fields[3]) != 32:
            raise Unproved("header: not one of a block")
        number, time = [int.from_bytes(fields[i], "big") for i in (8, 11)]
    except (rlp.RlpError, TypeError) as error:
        raise Unproved("header: " + str(error))
    return keccak256(raw), number, time, fields[3]


def stake(values):
    """The Relay of StakeRegistry in two words, as GET /v1/stake names its fields."""
    first, second = [value.to_bytes(32, "big") for value in values]
    # Solidity packs members from the low end of a word.
    state = second[5]
    return {
        "owner": "0x" + first[12:].hex(),
        "stake": str(int.from_bytes(first[:12], "big")),
        "payout": "0x" + second[12:].hex(),
        "rate_kbps": int.from_bytes(second[8:12], "big"),
        "region": int.from_bytes(second[6:8], "big"),
        "state": STATES[state] if state < len(STATES) else "unknown",
        "unlock_at": int.from_bytes(second[:5], "big"),
    }


def verify(answer, info, relay, region, payout, between=None):
    """What an answer proves: {block, hash, time, stake, epoch, claimable_at, root, pending_root, total_wei,
    claimed_wei}; `claimable_at` is 0 while no root is pending, `epoch` that of the newest root.

    `info` is the gateway's /v1/info, `relay` 32 bytes, `payout` 20; `between` is called between parts. Raises Unproved.
    """
    try:
        hash, number, time, state_root = header(bytes.fromhex(answer["header"]))
        contracts = info["contracts"]
        account = registration.address_bytes(info["account"], "account")
        wanted = slots(relay, account, region, payout)
        values = []
        for name, keys in zip(("registry", "settlement"), wanted):
            part = answer[name]
            address = registration.address_bytes(contracts[name], "contracts." + name)
            values.append(_values(name, state_root, address, keys, part, between or _nothing))
    except _WRONG as error:
        raise _unproved(error)
    head, root, pending, totals, claimed = values[1]
    head = head.to_bytes(32, "big")
    return {
        "block": number,
        "hash": hash.hex(),
        "time": time,
        "stake": stake(values[0]),
        "epoch": int.from_bytes(head[3:7], "big"),
        "claimable_at": int.from_bytes(head[7:12], "big"),
        "root": root.to_bytes(32, "big").hex(),
        "pending_root": pending.to_bytes(32, "big").hex(),
        "total_wei": str(totals & ((1 << 128) - 1)),
        "claimed_wei": str(claimed),
    }


def free(answer, info, wallet):
    """What an answer that was asked for `wallet` (20 bytes) too proves: wei of BWT that it holds. Raises Unproved."""
    try:
        state_root = header(bytes.fromhex(answer["header"]))[3]
        token = registration.address_bytes(info["contracts"]["token"], "contracts.token")
        slot = mpt.mapping_slot(wallet, BALANCES_SLOT)
        return _values("token", state_root, token, [slot], answer["token"], _nothing)[0]
    except _WRONG as error:
        raise _unproved(error)


def earned(posted, payout, proved):
    """(cumulative wei, final) that the root on chain grants `payout` by the gateway's Merkle proof. Raises Unproved.

    `posted` is that part of GET /v1/earnings; `proved` an answer of `verify`.
    """
    try:
        amount = int(posted["cumulative_wei"])
        leaf = eip712.word("address", payout, "payout") + eip712.word("uint256", amount, "cumulative_wei")
        root = posted["root"]
        siblings = [bytes.fromhex(sibling) for sibling in posted["proof"]]
        shown = merkle.holds(bytes.fromhex(root), leaf, siblings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unproved("earnings: " + str(error))
    if not shown:
        raise Unproved("earnings: the Merkle proof does not lead to the root")
    if root not in (proved["root"], proved["pending_root"]):
        raise Unproved("earnings: the root is not the one on chain")
    return amount, root == proved["root"]


def _values(name, state_root, address, keys, part, between):
    found = mpt.account(state_root, address, [bytes.fromhex(node) for node in part["account"]])
    if found is None or found[3] == mpt.EMPTY_CODE:
        raise Unproved(name + ": no contract is at its address")
    if len(part["slots"]) != len(keys):
        raise Unproved("%s: %d slots are proved, %d asked" % (name, len(part["slots"]), len(keys)))
    values = []
    for key, nodes in zip(keys, part["slots"]):
        between()
        values.append(mpt.storage(found[2], key, [bytes.fromhex(node) for node in nodes]))
    return values


def _nothing():
    pass


class Heads:
    """The newest proved block of each gateway: a chain does not go back far, and gateways see the same one."""

    BACK = 64  # blocks that a reorganisation may take back

    def __init__(self):
        self.newest = {}  # gateway's key: (number, hash)

    def add(self, key, number, hash):
        """Note a proved header. Raises Unproved when it cannot belong to the chain seen before."""
        before = self.newest.get(key)
        if before is not None and number < before[0] - self.BACK:
            raise Unproved("head: block %d after %d" % (number, before[0]))
        self.newest[key] = (number, hash)

    def differ(self, key, number, hash):
        """Whether `key` shows a block of the same number as another gateway, but another block."""
        for other in self.newest:
            if other != key and self.newest[other][0] == number and self.newest[other][1] != hash:
                return True
        return False
