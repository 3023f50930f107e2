"""Receipts that the chain takes: what a gateway's bond stands for, kept and held against the roots that it posts.

With each redeem a gateway gives EIP-712 `Receipt(gateway, region, account, epoch, cumulative)`, signed by its bonded
account: the root of `epoch` and every later one holds at least `cumulative` wei for `account`. A root that holds less
can be challenged with it by anybody (contracts/src/Ledgers.sol). Docs: docs/protocol.md, "Receipts for the chain".

To recover a signer takes as long as some signatures, so a receipt is checked when its epoch is a new one and otherwise
every CHECK_S; in between the newest waits, unchecked, in RAM.
"""

from ..ledger import eip712, secp256k1
from ..ledger.keccak import keccak256
from ..platform import clock
from . import registration

SETTLEMENT = ("bwrouter Settlement", "1")
RECEIPT = (
    "Receipt",
    (
        ("address", "gateway"),
        ("uint16", "region"),
        ("address", "account"),
        ("uint32", "epoch"),
        ("uint256", "cumulative"),
    ),
)
CHALLENGE = "challenge(address,uint16,address,uint32,uint256,bytes)"
APPROVE = "approve(address,uint256)"
BOND_WEI = 100 * 10**18  # CHALLENGE_BOND of contracts/src/Parameters.sol, BWT
CHECK_S = 600
WEI_DIGITS = 78  # of the largest uint256; MicroPython would take minutes for some hundred thousand
EPOCHS = 8  # receipts kept of a gateway, each the newest of its epoch: a root waits for a challenge that long
FIELDS = ("region", "account", "epoch", "cumulative_wei", "sig", "gateway", "contract", "token", "chain_id")
SHORT = "root-below-receipt"
FORGED = "receipt-forged"
NONE = "receipt-missing"


class Wrong(ValueError):
    """A receipt that does not hold; the text says why."""


def bound(given, info):
    """A receipt of a redeem's answer with what binds it: the gateway's account, contract and chain. Raises Wrong."""
    try:
        receipt = {name: given[name] for name in FIELDS[:5]}
        receipt["gateway"] = info["account"]
        receipt["contract"] = info["contracts"]["settlement"]
        receipt["token"] = info["contracts"]["token"]
        receipt["chain_id"] = info["chain_id"]
        _values(receipt)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Wrong("receipt: " + str(error))
    return receipt


def check(receipt):
    """Raise Wrong unless the gateway's bonded account has signed it for this chain and contract."""
    try:
        contract = registration.address_bytes(receipt["contract"], "contract")
        separator = eip712.domain_separator(SETTLEMENT[0], SETTLEMENT[1], receipt["chain_id"], contract)
        values = _values(receipt)
        digest = eip712.digest(separator, RECEIPT, values)
        signer = secp256k1.address(secp256k1.recover(digest, bytes.fromhex(receipt["sig"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Wrong("receipt: " + str(error))
    if signer != values["gateway"]:
        raise Wrong("receipt: signed by 0x%s, the gateway's bond is that of %s" % (signer.hex(), receipt["gateway"]))


def _values(receipt):
    for name in ("region", "epoch", "chain_id"):
        if not isinstance(receipt[name], int):
            raise ValueError("%s: %r is no number" % (name, receipt[name]))
    wei = receipt["cumulative_wei"]
    if not wei.isdigit() or len(wei) > WEI_DIGITS or len(receipt["sig"]) != 130:
        raise ValueError("cumulative_wei or sig is malformed")
    return {
        "gateway": registration.address_bytes(receipt["gateway"], "gateway"),
        "region": receipt["region"],
        "account": registration.address_bytes(receipt["account"], "account"),
        "epoch": receipt["epoch"],
        "cumulative": int(wei),
    }


def add(kept, receipt):
    """Put a receipt into the list `kept` of one gateway: the highest of each epoch and region, of the last EPOCHS."""
    for other in kept:
        if (other["epoch"], other["region"], other["account"]) == (
            receipt["epoch"],
            receipt["region"],
            receipt["account"],
        ):
            if int(other["cumulative_wei"]) >= int(receipt["cumulative_wei"]):
                return
            kept.remove(other)
            break
    kept.append(receipt)
    kept.sort(key=lambda r: r["epoch"])
    while len(kept) > EPOCHS:
        del kept[0]


def shortfall(kept, proved, region, account, posted):
    """What the newest root lacks: None, or {code, epoch, promised_wei, posted_wei, until, receipt}.

    `kept`: receipts of the gateway; `proved`: proofs.verify's answer; `account`: 20 bytes; `posted`: (root, wei) of the
    leaf that was shown for it, None for none. `until`: unix time to which the root can be challenged, 0: it is final.
    """
    best = None
    for receipt in kept:
        mine = receipt["region"] == region and bytes.fromhex(receipt["account"][2:]) == account
        if mine and receipt["epoch"] <= proved["epoch"]:
            if best is None or int(receipt["cumulative_wei"]) > int(best["cumulative_wei"]):
                best = receipt
    if best is None:
        return None
    root = proved["pending_root"] if proved["claimable_at"] else proved["root"]
    wei = int(posted[1]) if posted and posted[0] == root else 0
    if wei >= int(best["cumulative_wei"]):
        return None
    return {
        "code": SHORT,
        "epoch": proved["epoch"],
        "promised_wei": best["cumulative_wei"],
        "posted_wei": str(wei),
        "until": proved["claimable_at"],
        "receipt": best,
    }


def challenge_data(receipt):
    """ABI-encoded call of Settlement.challenge."""
    values = _values(receipt)
    signature = bytes.fromhex(receipt["sig"])
    words = [eip712.word(solidity, values[name], name) for solidity, name in RECEIPT[1]]
    words.append(eip712.word("uint256", 6 * 32, "offset"))
    words.append(eip712.word("uint256", len(signature), "length"))
    return keccak256(CHALLENGE.encode())[:4] + b"".join(words) + signature + bytes(-len(signature) % 32)


def approve_data(contract):
    """ABI-encoded call of BWT's approve of the challenge's bond; `contract`: 20 bytes."""
    words = eip712.word("address", contract, "contract") + eip712.word("uint256", BOND_WEI, "bond")
    return keccak256(APPROVE.encode())[:4] + words


class Inbox:
    """Receipts on their way to the book: bound, checked by and by. `error`: {gateway's key: (code, text)}."""

    def __init__(self):
        self.error = {}
        self._newest = {}  # (gateway's key, region): the newest, not checked yet
        self._checked = {}  # (gateway's key, region): (epoch, unix time) of the last check

    def take(self, key, given, info):
        """The receipts of a redeem's answer. Returns those that are good and due for the book."""
        if not isinstance(given, list) or not given:
            self.error[key] = (NONE, "no receipt for the chain with the redeem")
            return []
        good = []
        for one in given:
            try:
                receipt = bound(one, info)
                place = (key, receipt["region"])
                waiting = self._newest.get(place)
                if waiting is not None and waiting["epoch"] != receipt["epoch"]:
                    self._check(place, good)  # the last one of its epoch
                self._newest[place] = receipt
                if self._due(place):
                    self._check(place, good)
            except Wrong as error:
                self.error[key] = (FORGED, str(error))
        return good

    def due(self):
        """Checked receipts whose time has come: pairs (gateway's key, receipt)."""
        out = []
        for place in list(self._newest):
            good = []
            if self._due(place):
                try:
                    self._check(place, good)
                except Wrong as error:
                    self.error[place[0]] = (FORGED, str(error))
            out += [(place[0], receipt) for receipt in good]
        return out

    def _due(self, place):
        epoch, at = self._checked.get(place, (-1, 0))
        return self._newest[place]["epoch"] != epoch or abs(clock.unix() - at) >= CHECK_S

    def _check(self, place, good):
        receipt = self._newest.pop(place)
        self._checked[place] = (receipt["epoch"], clock.unix())
        check(receipt)
        self.error.pop(place[0], None)
        good.append(receipt)
