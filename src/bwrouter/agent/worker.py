"""The agent's second process: everything that may wait for a gateway. It registers, publishes, opens and redeems.

HTTP, TLS and name look-ups block on MicroPython, and a signature takes a tenth of a second on a small CPU; the first
process must send a rate every 200 ms, so the two are apart (docs/decisions.md). They exchange JSON messages:
to the worker `{"t":"open","tickets":[...]}` and `{"t":"redeem","gateway":key,"items":[...]}`, from it
`{"t":"opened"|"redeemed","gateway":key,"results":[...]}`, the same with `"error"` instead,
`{"t":"promised","gateway":key,"receipts":[...]}`, and `{"t":"state",...}`. For a router that needs an anchor: from the
worker `{"t":"anchors","offers":[descriptor]}` and `{"t":"published","descriptor":...}`, to it `{"t":"anchored",...}`.
"""

import json

from ..platform import clock, http, net, process
from . import promises, proofs, proving, publish, registration, results, tickets, verdicts
from .gateways import INFO_S, OLD_S, Gateways, Refused
from .log import Log
from .reach import Reach

CALM = 8  # 1 / CALM of the time since money moved passes between two looks at what it may have changed, ...
CALM_S = OLD_S  # ... at most so long: with TLS a request takes 0.15 s of a small CPU or more
STAKE_S = 60  # an active stake is looked at again after so long
STAKE_WAIT_S = 2  # ... and one that is on its way
REGISTER_S = 15  # between two attempts to register
EARNINGS_S = 15
PUBLISH_RETRY_S = 10
PROVE_TRIES = 3
PROVE_S = 600  # proofs are checked again after so long even if nothing changed: they take a second on a small CPU
VERDICTS_S = 60
OFFERS_S = 600  # other anchors are asked for after so long ...
OFFERS_WAIT_S = 30  # ... and while there is none
WAIT_MS = 500
REST_MS = 4000  # while nothing changes; orders are heard at once
_SHOWN = ("payout", "region", "units", "cumulative_wei", "claimed_wei", "balance_wei")


class Worker:
    def __init__(self, settings, keys, channel):
        self.settings = settings
        self.keys = keys
        self.channel = channel
        self.gateways = Gateways(settings)
        self.reach = Reach(settings)
        self.log = Log("bwrouter agent", settings["log_level"])
        self.stake = None
        self.stake_error = ""
        self.earnings = None
        self.tx = ""
        self._stake_at = 0
        self._register_at = 0
        self._earnings_at = 0
        self._said = None
        self._moved_at = clock.unix()  # when money moved
        self.proved = None
        self.proof_error = ""
        self._heads = proofs.Heads()
        self._proved_for = None
        self._proved_at = 0
        self.verdicts = []
        self._verdicts_at = 0
        self.inbox = promises.Inbox()
        self.promises = tickets.Book(settings["run_dir"], settings["state_dir"]).promises
        self.free = None  # BWT of the wallet by the chain's proof: {wei, block}
        self._free_at = 0
        self.shortfall = None
        self._short_seen = None
        self._offers_at = 0

    def run(self):
        """Until the agent is gone."""
        poller = net.Poller([self.channel.fd])
        wait = WAIT_MS
        while self.channel.open:
            poller.wait(wait)
            self.serve()
            self.upkeep()
            news = self.say_state()
            wait = REST_MS if not news and (self._active() or self.gateways.away()) else WAIT_MS

    def serve(self):
        """Do the orders that wait: a buyer waits for an open, so this comes between the steps of all else."""
        while True:
            text = self.channel.recv()
            if text is None:
                return
            self.handle(json.loads(text))

    def handle(self, message):
        if message["t"] == "anchored":
            if self.reach.anchored(message) and self.reach.alone():
                self._publish_anew()
            return
        self._moved_at = clock.unix()
        if message["t"] == "open":
            self.open(message["tickets"])
        elif message["t"] == "redeem":
            self.redeem(message["gateway"], message["items"])

    # -- money -------------------------------------------------------------------

    def open(self, tickets):
        """Ask the gateways of the tickets' mint keys; what none answers for is left to be asked again."""
        groups = {}
        for ticket in tickets:
            groups.setdefault(ticket["key"], []).append(ticket)
        for key in sorted(groups):
            gateways = self.gateways.of_mint_key(key)
            self._post("opened", gateways, "/v1/open", {"tickets": groups[key]}, results.opened)
        self.channel.send(b'{"t":"idle","job":"open"}')

    def redeem(self, gateway, items):
        gateways = self.gateways.of_key(gateway)
        self._post("redeemed", gateways, "/v1/redeem", {"items": items}, results.redeemed)
        self.channel.send(b'{"t":"idle","job":"redeem"}')

    def _post(self, kind, gateways, path, body, check):
        error = "no gateway answers"
        for gateway in gateways:
            try:
                answer = gateway.signed(path, body, self.keys)
                good = check(answer, body, self.keys.relay, gateway.key)
                self._send({"t": kind, "gateway": gateway.key, "results": good})
                if kind == "redeemed" and any([result["ok"] for result in good]):
                    self._promised(gateway.key, self.inbox.take(gateway.key, answer.get("bonded"), gateway.info))
                self.log.change(kind, "")
                return
            except (Refused, http.HttpError, results.Malformed) as failure:
                error = gateway.url + ": " + str(failure)
        self.log.change(kind, error)
        self._send({"t": kind, "gateway": "", "results": [], "error": error})

    def _promised(self, key, good):
        """Receipts for the chain that hold: kept here, to hold roots against them, and by the agent's book."""
        for receipt in good:
            promises.add(self.promises.setdefault(key, []), receipt)
        if good:
            self._send({"t": "promised", "gateway": key, "receipts": good})

    # -- standing ------------------------------------------------------------------

    def upkeep(self):
        """Reachability, stake, descriptor and earnings, whatever is due; one failing gateway does not hold up
        another."""
        self._keep_reachable()
        for key, receipt in self.inbox.due():
            self._promised(key, [receipt])
        ready = self.gateways.ready(self._calm(INFO_S))
        for gateway in self.gateways.all:
            self.log.change("gateway " + gateway.url, gateway.error)
        if not ready:
            return
        try:
            self._keep_stake(ready[0])
        except (Refused, http.HttpError, ValueError, KeyError, TypeError) as error:
            self.stake_error = str(error)
        self.log.change("stake", self.stake_error)
        self.serve()
        self._keep_offers(ready[0])
        self._keep_free(ready[0])
        state = self.stake.get("state") if self.stake else ""
        if self._standing():
            for gateway in ready:
                self._keep_published(gateway)
                self.serve()
            self._keep_earnings(ready[0])
        if state not in ("", "none"):
            self._keep_verdicts(ready[0])

    def _keep_reachable(self):
        if self.reach.keep():
            self._publish_anew()
            if self.reach.by:
                place = (self.settings["public_v4"], self.reach.port, self.reach.by)
                self.log.info("reachable at %s port %d, forwarded by the modem (%s)" % place)
        self.log.change("reach", self.reach.error)

    def _publish_anew(self):
        for gateway in self.gateways.all:
            gateway.published_until = 0  # its descriptor names what is no more

    def _keep_offers(self, gateway):
        """Of a router that nobody reaches: relays that may be its anchor, drawn by the gateway, checked here, where a
        signature may take its time."""
        now = clock.unix()
        wait = OFFERS_S if self.reach.anchor is not None else OFFERS_WAIT_S
        # Before there is a stake nothing can be published, and anchors keep nobody whom no gateway knows.
        if not self.reach.alone() or not self._standing():
            if self._offers_at:
                self._offers_at = 0
                self._send({"t": "anchors", "offers": []})
            return
        if abs(now - self._offers_at) < wait:
            return
        self._offers_at = now
        try:
            answer = gateway.call("GET", "/v1/anchors")
            offers = results.anchors(answer, self.keys.relay, gateway.key, gateway.now())
            self._send({"t": "anchors", "offers": offers})
        except (Refused, http.HttpError, results.Malformed) as error:
            self.log.change("anchors", str(error))

    def _active(self):
        return self.stake is not None and self.stake.get("state") == "active"

    def _standing(self):
        """Whether a descriptor may be published: verifiers must reach a suspended router, or it is never acquitted."""
        return self.stake is not None and self.stake.get("state") in ("active", "suspended")

    def _calm(self, least_s):
        """Seconds between two looks at something: the longer ago money moved, the more."""
        return max(least_s, min(CALM_S, abs(clock.unix() - self._moved_at) // CALM))

    def _keep_stake(self, gateway):
        now = clock.unix()
        if abs(now - self._stake_at) < (self._calm(STAKE_S) if self._active() else STAKE_WAIT_S):
            return
        self._stake_at = now
        self.stake = gateway.call("GET", "/v1/stake/" + self.keys.relay.hex())
        if self.stake.get("state") != "none":
            self.stake_error = "" if self.stake["state"] == "active" else "the stake is " + self.stake["state"]
            self._keep_terms(gateway, now)
            return
        if self.settings["stake_wei"] == "0":
            self.stake_error = "not registered, and stake_wei is 0: set the stake to hold"
            return
        if abs(now - self._register_at) < REGISTER_S:
            return
        self._register_at = now
        nonces = gateway.call("GET", "/v1/nonces/0x" + self.keys.address.hex())
        body = registration.register(self.keys, self.settings, gateway.info, nonces, gateway.now())
        self.tx = str(gateway.call("POST", "/v1/register", http.canonical(body)).get("tx"))
        self.stake_error = ""
        self._stake_at = 0
        self.log.info("registration sent: " + self.tx)

    def _keep_terms(self, gateway, now):
        """Bring payout and rate on chain when the owner changed the settings after registering."""
        if self.stake["state"] != "active":
            return
        if self.stake["region"] != self.settings["region"]:
            self.stake_error = "the stake is for region %d; unstake before changing it" % self.stake["region"]
            return
        payout = registration.payout_of(self.keys, self.settings)
        rate = self.settings["rate_kbps"]
        if registration.address_bytes(self.stake["payout"], "payout") != payout:
            path, kind, values, more = "/v1/payout", registration.SET_PAYOUT, {"payout": payout}, "0x" + payout.hex()
        elif self.stake["rate_kbps"] != rate:
            path, kind, values, more = "/v1/rate", registration.SET_RATE, {"rateKbps": rate}, rate
        else:
            return
        self._stake_at = now - self._calm(STAKE_S) + STAKE_WAIT_S  # look again soon
        if abs(now - self._register_at) < REGISTER_S:
            return
        self._register_at = now
        body = registration.decide(gateway, self.keys, kind, values)
        body["payout" if kind is registration.SET_PAYOUT else "rate_kbps"] = more
        sent = gateway.call("POST", path, http.canonical(body))
        self.tx = str(sent.get("tx"))
        if sent.get("state") == "mined":
            self._register_at = 0  # the next decision has its nonce
        self.log.info(kind[0] + " sent: " + self.tx)

    def _keep_published(self, gateway):
        now = gateway.now()
        if gateway.published_until and abs(now - gateway.published_at) < publish.REFRESH_S:
            return
        if gateway.waiting():
            return
        try:
            until = now + publish.LIFETIME_S
            anchor = self.reach.anchor if self.reach.alone() else None
            part = publish.own_descriptor(self.keys, self.settings, until, anchor)
            full = gateway.signed("/v1/descriptors", {"descriptor": part.hex()}, self.keys)["descriptor"]
            if bytes.fromhex(full)[: len(part)] != part:
                raise ValueError("it answered with another descriptor than was sent")
            gateway.published_until, gateway.published_at = until, now
            self.log.info("descriptor published at " + gateway.url)
            if anchor is not None:
                self._send({"t": "published", "descriptor": full})
        except (Refused, http.HttpError, ValueError, KeyError, TypeError) as error:
            gateway.error = "descriptor: " + str(error)
            gateway.retry_at = clock.unix() + PUBLISH_RETRY_S

    def _keep_earnings(self, gateway):
        now = clock.unix()
        if abs(now - self._earnings_at) < self._calm(EARNINGS_S):
            return
        self._earnings_at = now
        try:
            self.earnings = gateway.call("GET", "/v1/earnings/" + self.keys.relay.hex())
            self._prove(gateway, now)
        except (Refused, http.HttpError) as error:
            self.log.debug("earnings: " + str(error))

    def _keep_free(self, gateway):
        """What the wallet holds: with the proofs of stake and earnings, or alone as long as there is no stake."""
        if self._active():
            if self.proved is not None:
                self.free = {"wei": self.proved["free_wei"], "block": self.proved["block"]}
            return
        now = clock.unix()
        if abs(now - self._free_at) < EARNINGS_S:
            return
        self._free_at = now
        try:
            self.free = proving.free(gateway, self.keys, self.settings)
        except (Refused, http.HttpError, proofs.Unproved) as error:
            self.free = None
            self.log.debug("free: " + str(error))

    def _keep_verdicts(self, gateway):
        now = clock.unix()
        if abs(now - self._verdicts_at) < (self._calm(VERDICTS_S) if self._active() else VERDICTS_S):
            return
        self._verdicts_at = now
        try:
            answer = gateway.call("GET", "/v1/audits/%s?limit=%d" % (self.keys.relay.hex(), verdicts.MOST))
            self.verdicts = verdicts.checked(answer, self.keys.relay, gateway.key)
            self.log.change("verdicts", "")
        except (Refused, http.HttpError, verdicts.Malformed) as error:
            self.log.change("verdicts", str(error))

    def _prove(self, gateway, now):
        """Check the gateway's words on stake and earnings against the chain's own proofs, when they changed."""
        posted = self.earnings.get("posted")
        words = [self.stake, self.earnings.get("claimed_wei"), posted and posted.get("root")]
        if words == self._proved_for and abs(now - self._proved_at) < PROVE_S:
            return
        for _ in range(PROVE_TRIES):
            try:
                self.proved = proving.prove(gateway, self.keys, self.stake, self.earnings, self._heads, self.serve)
                self.proof_error = ""
                self._compare(gateway)
                break
            except (ValueError, KeyError, TypeError) as error:
                # The chain may have moved between the two answers.
                self.proved = None
                self.proof_error = str(error)
                self.stake = gateway.call("GET", "/v1/stake/" + self.keys.relay.hex())
                self.earnings = gateway.call("GET", "/v1/earnings/" + self.keys.relay.hex())
        self.log.change("proof", self.proof_error)
        self._proved_for, self._proved_at = words, now
        if self._short_seen is not None and self.shortfall is None:
            self._proved_for = None  # look again soon

    def _compare(self, gateway):
        """Hold the newest root against the gateway's receipts. A root may be on chain a moment before the gateway shows
        its leaf: what is short must be so at two looks."""
        short = proving.shortfall(gateway.key, self.promises, self.stake, self.earnings, self.proved)
        seen = short and (short["epoch"], short["until"])
        self.shortfall = short if seen == self._short_seen else None
        self._short_seen = seen
        text = "root of epoch %d: %s wei, promised %s; see `bwrouter challenge`"
        shown = self.shortfall
        words = text % (shown["epoch"], shown["posted_wei"], shown["promised_wei"]) if shown else ""
        self.log.change("receipt", words)

    # -- to the agent ----------------------------------------------------------------

    def say_state(self):
        """Tell the agent what changed. Returns whether anything did."""
        state = {
            "t": "state",
            "stake": self.stake,
            "stake_error": self.stake_error,
            "tx": self.tx,
            "free": self.free,
            "earnings": _short(self.earnings),
            "proved": self.proved,
            "proof_error": self.proof_error,
            "shortfall": self.shortfall,
            "receipt_errors": self._receipt_errors(),
            "verdicts": self.verdicts,
            "reach": self.reach.status(),
            "gateways": [
                {
                    "url": g.url,
                    "key": g.key,
                    "ok": not g.error,
                    "error": g.error,
                    "failures": g.failures,
                    "published_until": g.published_until,
                    "epoch": g.info.get("epoch") if g.info else None,
                }
                for g in self.gateways.all
            ],
        }
        if state == self._said:  # far cheaper than to compare texts
            return False
        if self._send(state):
            self._said = state
        return True

    def _receipt_errors(self):
        out = []
        for gateway in self.gateways.all:
            error = self.inbox.error.get(gateway.key)
            if error is not None:
                out.append({"gateway": gateway.url, "code": error[0], "text": error[1]})
        return out

    def _send(self, message):
        return self._send_text(http.canonical(message))

    def _send_text(self, text):
        if len(text) > process.MESSAGE_MAX:
            self.log.change("message", "%d bytes of a gateway's answer are more than can be used" % len(text))
            return False
        for _ in range(20):
            if self.channel.send(text.encode()):
                return True
            clock.sleep_ms(50)
        self.log.error("the agent's first process does not read: a message is lost and will be asked for again")
        return False


def _short(earnings):
    """Earnings without the Merkle proof, which nobody reads in a status."""
    if not earnings:
        return None
    out = {name: earnings.get(name) for name in _SHOWN}
    posted = earnings.get("posted")
    out["posted"] = {name: posted.get(name) for name in ("epoch", "cumulative_wei", "final")} if posted else None
    return out
