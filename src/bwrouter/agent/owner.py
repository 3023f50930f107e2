"""What the owner asks of gateway and chain on the router's shell: earnings, claim, unstake; proved or signed here."""

from ..ledger import eip712
from ..ledger.keccak import keccak256
from ..platform import clock, http
from . import keys, proofs, registration
from .gateways import Gateways, Refused
from .proving import prove

CLAIM = "claim(address,uint16,address,uint256,bytes32[])"


class Unavailable(OSError):
    """It cannot be done now; the text says why and what would help."""


class Owner:
    """One command's view: the router's keys and the first gateway that answers. Raises Unavailable."""

    def __init__(self, settings):
        self.settings = settings
        self.keys = keys.load(settings["state_dir"])
        gateways = Gateways(settings)
        if not gateways.all:
            raise Unavailable("no gateway is set (setting gateways)")
        ready = gateways.ready()
        if not ready:
            raise Unavailable("no gateway answers: " + "; ".join([g.url + ": " + g.error for g in gateways.all]))
        self.gateway = ready[0]

    def _call(self, method, path, body=None):
        try:
            return self.gateway.call(method, path, body)
        except (Refused, http.HttpError) as error:
            raise Unavailable(str(error))

    def stake(self):
        """The gateway's answer on the stake, any state."""
        return self._call("GET", "/v1/stake/" + self.keys.relay.hex())

    def earnings(self):
        """Earnings as the gateway says and the chain proves them: a dict of raw values.

        `proved` is None with `proof_error` where the chain does not bear the gateway out.
        """
        stake = self.stake()
        if stake.get("state") == "none":
            raise Unavailable("this relay is not registered on the chain: it has earned nothing yet")
        for _ in range(3):  # the chain may move between the answers
            said = self._call("GET", "/v1/earnings/" + self.keys.relay.hex())
            try:
                proved, wrong = prove(self.gateway, self.keys, stake, said, proofs.Heads()), ""
                break
            except (Refused, http.HttpError) as error:
                raise Unavailable(str(error))
            except (ValueError, KeyError, TypeError) as error:
                proved, wrong = None, str(error)
                stake = self.stake()
        said = dict(said)
        said.update({"stake": stake, "proved": proved, "proof_error": wrong, "gateway": self.gateway.url})
        return said

    def claim(self):
        """The claim that anybody may send to the chain for this router, or why there is none.

        {account, cumulative_wei, claimed_wei, due_wei, to, data}: `data` is the call of Settlement at `to`. The gateway
        sends claims by itself; this is for the case that it does not.
        """
        said = self.earnings()
        if said["proved"] is None:
            raise Unavailable("the chain does not bear the gateway out: " + said["proof_error"])
        cumulative, claimed = int(said["proved"]["cumulative_wei"]), int(said["proved"]["claimed_wei"])
        out = {
            "account": said["payout"],
            "cumulative_wei": str(cumulative),
            "claimed_wei": str(claimed),
            "due_wei": str(max(0, cumulative - claimed)),
            "final": said["proved"]["final"],
        }
        if cumulative > claimed:
            proof = [bytes.fromhex(sibling) for sibling in said["posted"]["proof"]]
            out["to"] = self.gateway.info["contracts"]["settlement"]
            account = registration.address_bytes(self.gateway.info["account"], "account")
            payout = registration.address_bytes(said["payout"], "payout")
            out["data"] = "0x" + claim_data(account, said["region"], payout, cumulative, proof).hex()
        return out

    def register(self):
        """Stake `stake_wei` now: {tx, state}. The agent does the same by itself when it runs."""
        if self.settings["stake_wei"] == "0":
            raise Unavailable("setting stake_wei is 0: set the stake to hold, in wei of BWT")
        state = self.stake().get("state")
        if state != "none":
            raise Unavailable("there is a stake already: it is " + str(state))
        nonces = self._call("GET", "/v1/nonces/0x" + self.keys.address.hex())
        body = registration.register(self.keys, self.settings, self.gateway.info, nonces, self.gateway.now())
        return self._call("POST", "/v1/register", http.canonical(body))

    def unstake(self):
        """Give notice: {tx, state}. The relay is offered no tickets any more; the stake is free after the unbonding."""
        state = self.stake().get("state")
        if state not in ("active", "suspended"):
            raise Unavailable("there is nothing to unstake: the stake is " + str(state))
        for left in (2, 1, 0):
            try:
                body = registration.decide(self.gateway, self.keys, registration.UNSTAKE, {})
                return self.gateway.call("POST", "/v1/unstake", http.canonical(body))
            except Refused as error:
                # The agent may have used the same nonce for a decision of its own meanwhile.
                if not left or error.code not in ("failed", "reverted"):
                    raise Unavailable(str(error))
                clock.sleep_ms(2000)
            except http.HttpError as error:
                raise Unavailable(str(error))


def claim_data(gateway, region, account, cumulative, proof):
    """ABI-encoded call of Settlement.claim; `proof` is a list of 32-byte siblings."""
    words = [
        eip712.word("address", gateway, "gateway"),
        eip712.word("uint16", region, "region"),
        eip712.word("address", account, "account"),
        eip712.word("uint256", cumulative, "cumulative"),
        eip712.word("uint256", 5 * 32, "offset"),
        eip712.word("uint256", len(proof), "length"),
    ]
    return keccak256(CLAIM.encode())[:4] + b"".join(words) + b"".join(proof)
