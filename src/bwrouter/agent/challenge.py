"""What `bwrouter challenge` looks at: the newest root of each gateway beside the receipts that are kept of it."""

from ..platform import clock, http
from . import keys, promises, proofs, registration
from .gateways import Gateways, Refused
from .proving import prove
from .tickets import Book

LOOKS = 3  # a root may be on chain a moment before the gateway shows its leaf
PAUSE_MS = 2000
UNSEEN = "root-unseen"


def look(settings):
    """A list of {url, key, error, code, epoch, promised_wei, posted_wei, until}, one for each gateway with receipts.

    `code` is empty when the root holds what was promised; with promises.SHORT and a root that can be challenged still
    there are `to` and `data` of the challenge, and `bond_wei`, `bond_token`, `bond_data` of the allowance before it.
    With UNSEEN the gateway cannot be asked: the challenge of the newest receipt is there, for who can see the root.
    """
    own = keys.load(settings["state_dir"])
    kept = Book(settings["run_dir"], settings["state_dir"]).promises
    out = []
    for gateway in Gateways(settings).all:
        receipts = kept.get(gateway.key)
        if not receipts:
            continue
        entry = {"url": gateway.url, "key": gateway.key, "error": "", "code": ""}
        try:
            entry.update(_look(gateway, own, receipts))
        except (Refused, http.HttpError, ValueError, KeyError, TypeError) as error:
            newest = receipts[-1]
            entry.update({"error": str(error), "code": UNSEEN, "epoch": newest["epoch"], "until": 0})
            entry["promised_wei"], entry["posted_wei"] = newest["cumulative_wei"], ""
            _add_calls(entry, newest)
        out.append(entry)
    return out


def _look(gateway, own, receipts):
    gateway.refresh()
    for left in range(LOOKS - 1, -1, -1):
        stake = gateway.call("GET", "/v1/stake/" + own.relay.hex())
        said = gateway.call("GET", "/v1/earnings/" + own.relay.hex())
        short = None
        try:
            proved = prove(gateway, own, stake, said, proofs.Heads())
            posted = said.get("posted")
            leaf = (posted["root"], posted["cumulative_wei"]) if posted else None
            payout = registration.address_bytes(stake["payout"], "payout")
            short = promises.shortfall(receipts, proved, stake["region"], payout, leaf)
            if short is None:
                return {"epoch": proved["epoch"]}
        except proofs.Unproved:
            if not left:
                raise
        if left:
            clock.sleep_ms(PAUSE_MS)
    receipt = short.pop("receipt")
    promises.check(receipt)
    if short["until"]:
        _add_calls(short, receipt)
    return short


def _add_calls(entry, receipt):
    contract = registration.address_bytes(receipt["contract"], "contract")
    entry["to"] = receipt["contract"]
    entry["data"] = "0x" + promises.challenge_data(receipt).hex()
    entry["bond_wei"] = str(promises.BOND_WEI)
    entry["bond_token"] = receipt["token"]
    entry["bond_data"] = "0x" + promises.approve_data(contract).hex()
