"""EIP-712 messages to StakeRegistry and BWT, signed by the router's wallet: a router needs no gas coin."""

import os

from ..ledger import eip712, secp256k1

DEADLINE_S = 3600  # a signed message is good for so long
BWT = ("Bandwidth Token", "1")
REGISTRY = ("bwrouter StakeRegistry", "1")

REGISTER = (
    "Register",
    (
        ("bytes32", "relayId"),
        ("address", "owner"),
        ("address", "payout"),
        ("uint16", "region"),
        ("uint32", "rateKbps"),
        ("uint256", "stake"),
        ("uint256", "nonce"),
        ("uint256", "deadline"),
    ),
)
SET_PAYOUT = (
    "SetPayout",
    (("bytes32", "relayId"), ("address", "payout"), ("uint256", "nonce"), ("uint256", "deadline")),
)
SET_RATE = (
    "SetRate",
    (("bytes32", "relayId"), ("uint32", "rateKbps"), ("uint256", "nonce"), ("uint256", "deadline")),
)
UNSTAKE = ("Unstake", (("bytes32", "relayId"), ("uint256", "nonce"), ("uint256", "deadline")))


def address_bytes(text, what):
    """20 bytes of `0x...`. Raises ValueError that names `what`."""
    try:
        raw = bytes.fromhex(text[2:]) if text[:2] == "0x" else b""
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise ValueError("%s: %r is no address (0x and 40 hex digits)" % (what, text))
    return raw


def sign(domain, kind, values, keys, chain_id, contract):
    """65 bytes r, s, v of the wallet over `values` in the domain (name, version) of `contract` (20 bytes)."""
    separator = eip712.domain_separator(domain[0], domain[1], chain_id, contract)
    return secp256k1.signature(eip712.digest(separator, kind, values), keys.wallet, os.urandom(40))


def register(keys, settings, info, nonces, now):
    """Body of POST /v1/register: stake `settings["stake_wei"]` for the claimed rate.

    `info` and `nonces` are the gateway's answers; they only choose what is signed: a false nonce or address makes a
    signature that no contract takes. `now`: unix seconds. Raises ValueError for a malformed answer.
    """
    payout = payout_of(keys, settings)
    stake, deadline, chain_id = int(settings["stake_wei"]), now + DEADLINE_S, info["chain_id"]
    registry = address_bytes(info["contracts"]["registry"], "contracts.registry")
    token = address_bytes(info["contracts"]["token"], "contracts.token")
    values = {
        "relayId": keys.relay,
        "owner": keys.address,
        "payout": payout,
        "region": settings["region"],
        "rateKbps": settings["rate_kbps"],
        "stake": stake,
        "nonce": nonces["register"],
        "deadline": deadline,
    }
    permit = {
        "owner": keys.address,
        "spender": registry,
        "value": stake,
        "nonce": nonces["permit"],
        "deadline": deadline,
    }
    return {
        "relay": keys.relay.hex(),
        "owner": "0x" + keys.address.hex(),
        "payout": "0x" + payout.hex(),
        "region": settings["region"],
        "rate_kbps": settings["rate_kbps"],
        "stake": str(stake),
        "deadline": deadline,
        "sig": sign(REGISTRY, REGISTER, values, keys, chain_id, registry).hex(),
        "permit_sig": sign(BWT, eip712.PERMIT, permit, keys, chain_id, token).hex(),
    }


def payout_of(keys, settings):
    """The account that earnings go to, 20 bytes: the setting, or the router's own wallet. Raises ValueError."""
    return address_bytes(settings["payout"], "setting payout") if settings["payout"] else keys.address


def decide(gateway, router, kind, values):
    """Body of a signed decision to StakeRegistry: `values` beside relayId, nonce, deadline.

    Raises Refused, HttpError.
    """
    nonces = gateway.call("GET", "/v1/nonces/0x" + router.address.hex())
    deadline = gateway.now() + DEADLINE_S
    registry = address_bytes(gateway.info["contracts"]["registry"], "contracts.registry")
    given = dict(values)
    given.update({"relayId": router.relay, "nonce": nonces["register"], "deadline": deadline})
    signature = sign(REGISTRY, kind, given, router, gateway.info["chain_id"], registry)
    return {"relay": router.relay.hex(), "deadline": deadline, "sig": signature.hex()}
