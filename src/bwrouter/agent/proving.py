"""A gateway's words on stake, earnings and roots beside what the chain proves and what its receipts promise."""

from . import promises, proofs, registration


def shortfall(key, kept, stake, earnings, proved):
    """promises.shortfall of the gateway `key` with its own name and without the receipt; None: nothing is short."""
    payout = registration.address_bytes(stake["payout"], "payout")
    posted = earnings.get("posted")
    leaf = (posted["root"], posted["cumulative_wei"]) if posted else None
    short = promises.shortfall(kept.get(key, []), proved, stake["region"], payout, leaf)
    if short is not None:
        short["gateway"] = key
        del short["receipt"]
    return short


def free(gateway, keys, settings):
    """What the wallet holds of BWT by the chain's proof, whether or not the relay is registered: {wei, block}.

    Raises proofs.Unproved, Refused and HttpError.
    """
    answer = gateway.call("GET", _path(keys, settings["region"], keys.address))
    wei = proofs.free(answer, gateway.info, keys.address)
    return {"wei": str(wei), "block": proofs.header(bytes.fromhex(answer["header"]))[1]}


def _path(keys, region, payout):
    return "/v1/proofs/%s/%d/0x%s?wallet=0x%s" % (keys.relay.hex(), region, payout.hex(), keys.address.hex())


def prove(gateway, keys, stake, earnings, heads, between=None):
    """What the chain proves of stake and earnings: {block, hash, state, stake, claimed_wei, cumulative_wei, final,
    free_wei} and of the ledger {epoch, claimable_at, root, pending_root}.

    `between` is called between the steps, which take a tenth of a second each on a small CPU.

    Raises proofs.Unproved when a gateway's words are not borne out, Refused and HttpError.
    """
    region, payout = stake["region"], registration.address_bytes(stake["payout"], "payout")
    answer = gateway.call("GET", _path(keys, region, payout))
    proved = proofs.verify(answer, gateway.info, keys.relay, region, payout, between)
    heads.add(gateway.key, proved["block"], proved["hash"])
    if heads.differ(gateway.key, proved["block"], proved["hash"]):
        raise proofs.Unproved("head: block %d is another one at another gateway" % proved["block"])
    shown = proved["stake"]
    for name in ("owner", "payout", "stake", "region", "rate_kbps", "state"):
        if str(shown[name]).lower() != str(stake.get(name)).lower():
            what = (name, shown[name], stake.get(name))
            raise proofs.Unproved("stake: %s is %s on chain, the gateway says %s" % what)
    if int(shown["owner"][2:], 16) != int.from_bytes(keys.address, "big"):
        raise proofs.Unproved("stake: the owner on chain is %s, not this router's wallet" % shown["owner"])
    amount, final = 0, False
    if earnings.get("posted"):
        amount, final = proofs.earned(earnings["posted"], payout, proved)
    return {
        "block": proved["block"],
        "hash": proved["hash"],
        "state": shown["state"],
        "stake": shown["stake"],
        "claimed_wei": proved["claimed_wei"],
        "cumulative_wei": str(amount),
        "final": final,
        "free_wei": str(proofs.free(answer, gateway.info, keys.address)),
        "epoch": proved["epoch"],
        "claimable_at": proved["claimable_at"],
        "root": proved["root"],
        "pending_root": proved["pending_root"],
    }
