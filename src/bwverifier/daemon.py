"""`bwverifier run`: follows audit epochs on the chain, measures the relays whose committees it sits on, and reports.

One thread does one thing at a time, in the order of the chain's clock: reveal what is due, ask for verdicts, measure.
Whatever it has decided stands in the journal first, so that it may be killed at any moment and goes on.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests

from bwclient.chain import Chain, ChainError
from bwclient.directory import DirectoryError
from bwclient.files import read_json, write_json
from bwclient.meter import NoTicket
from bwclient.path import PathError
from bwclient.purse import Purse
from bwclient.tickets import Ticket
from bwclient.vault import load_key
from bwrouter.platform import net
from bwrouter.wire.descriptor import Descriptor

from . import evidence, habits
from .audit import REASONS, Auditor, Report, Seen
from .covert import LINGER_SECONDS, Covert, Delivery
from .duty import SUSPENDED, Duty, pack
from .journal import Journal, Record, Root, Task
from .pool import NotTaken, Pool, post, prefixes
from .probe import Probe, Stopped
from .settings import Settings
from .simulate import COMMITTEE
from .web import Web

BURST, LONG, COVERT = "burst", "long", "covert"
COVERT_CAPACITY = 0.004
COVERT_SECONDS = 86_400  # so long a covert audit counts
LAST_SHARE = 4  # no audit begins in the last 1/LAST_SHARE of the time to commit
RECLAIM_SECONDS = 6 * 3600.0
SMALL_WANTED = 96  # tickets: three for each circuit, of which hardly anything is used
SMALL_LEAST = 48  # with fewer left more are bought
PAUSE_MOST = 30.0  # seconds after a failure of chain or gateway
PAUSE_SHARE = 8  # and no longer than 1/PAUSE_SHARE of the time to reveal: it must not pass by
_DELAYS = (ChainError, DirectoryError, NoTicket, requests.RequestException, net.NetError, PathError)


class Verifier:
    """One verifier. `events`: the last things that happened, (unix seconds, text); `told` is called for each."""

    def __init__(self, settings: Settings, told: Callable[[str], None] = lambda text: None) -> None:
        self.settings, self.told = settings, told
        self.events: deque[tuple[float, str]] = deque(maxlen=50)
        self.now_doing = "starting"
        self.stop = False
        self.error = ""
        state = Path(settings.state_dir)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The namespace of covert audits is a fork of this process: before any thread.
        self.covert = Covert(settings.client()) if settings.covert_url else None
        if self.covert is not None:
            self.covert.web = Web(settings.covert_listen)
        self.journal = Journal(state / "journal.sqlite")
        self.chain = Chain(settings.rpc_url, load_key(settings.wallet_key_file, settings.passphrase_file), alone=True)
        self.pool = Pool(settings)
        self.purse = Purse(settings.client(), SMALL_WANTED, SMALL_LEAST)
        self.duty = Duty(self.chain, self._contract(), self.journal)
        self._probe: Probe | None = None
        self._until = 0.0  # monotonic seconds: what is measured after it comes too late
        self._planned = -1
        self._draw_at = 0
        self._conclude_at = 0.0
        self._reclaim_at = time.monotonic() + RECLAIM_SECONDS
        self._seen: set[bytes] = set()
        self._status = state / "status.json"
        self.epoch = self.time = 0

    def _contract(self) -> str:
        """BandwidthProof's address, as the gateway names it; as it named it last where it gives no answer, since what
        was committed to before a restart may be due. Raises requests.RequestException, ChainError."""
        gateway, file = self.settings.gateway, Path(self.settings.state_dir) / "contract.json"
        try:
            answer = self.pool._session.get(gateway.url + "/v1/info", timeout=10)
            answer.raise_for_status()
        except requests.RequestException:
            known = read_json(file)
            if known.get("gateway") != gateway.key or not known.get("proof"):
                raise
            return str(known["proof"])
        proof = str(answer.json()["contracts"].get("proof") or "")
        if not proof:
            raise ChainError("the gateway's chain has no BandwidthProof: there is nothing to verify")
        write_json(file, {"gateway": gateway.key, "proof": proof})
        return proof

    # -- telling -------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Something happened."""
        self.events.append((time.time(), text))
        self.told(text)

    def status(self) -> dict[str, Any]:
        """Raw numbers: what `run` shows and status.json holds. `paid_units`: to all relays since the start."""
        tasks = self.journal.tasks(self.epoch)
        return {
            "time": int(time.time()), "pid": os.getpid(), "address": self.chain.address, "epoch": self.epoch,
            "chain_time": self.time,
            "doing": self.now_doing, "error": self.error,
            "commit_until": self.epoch * self.duty.audit + self.duty.commit_for,
            "epoch_ends": (self.epoch + 1) * self.duty.audit,
            "tasks": [{"relay": t.relay.hex(), "kind": t.kind, "at": t.at, "done": t.done} for t in tasks],
            "relays": len(self.pool.everything()), "purse": self.purse.status(),
            "paid_units": self._paid_units(), "events": list(self.events)[-20:],
        }  # fmt: skip

    def _paid_units(self) -> int:
        tunnels = (self._probe, self.covert.tunnel if self.covert is not None else None)
        return sum(sum(t.paid().values()) for t in tunnels if t is not None)

    def _do(self, what: str) -> None:
        self.now_doing = what
        tmp = self._status.with_suffix(".tmp")  # replaced whole, but not synced: it is for looking at
        tmp.write_text(json.dumps(self.status()))
        tmp.replace(self._status)

    # -- the loop --------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`; failures of chain and gateway only delay. What was committed to before a restart is revealed
        first, and no purchase of tickets is waited for: the time to reveal may run out."""
        self.purse.stock_up(wait=False)
        bond, since, _ = self.duty.status()
        bonded = f"bond {bond / 1e18:.0f} BWT, in the draw from epoch {since}"
        self.say(f"{self.chain.address}: {bonded if bond else 'no bond, so no duty: `bwverifier join` puts it up'}")
        failures = 0
        while not self.stop:
            try:
                self.turn()
                failures, self.error = 0, ""
            except _DELAYS as e:
                failures += 1
                if str(e) != self.error:
                    self.say(f"delayed: {e}")
                self.error = str(e)
            self._do("waiting")
            longest = min(PAUSE_MOST, self.duty.reveal_for / PAUSE_SHARE)
            self._sleep(min(longest, self.settings.poll_seconds * (1 + failures)))

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stop and time.monotonic() < until:
            time.sleep(0.1)

    def turn(self) -> None:
        """One round. Raises what delays it."""
        self.time = self.duty.now()
        self.epoch = self.time // self.duty.audit
        self._reveal()
        self._judge()
        self.pool.keep_fresh(min(60.0, self.duty.audit / 10))
        self._plan()
        task = self.journal.due(self.epoch, self.time)
        if task is not None and not self.stop:
            self._perform(task)
        elif time.monotonic() > self._reclaim_at:
            self._reclaim_at = time.monotonic() + RECLAIM_SECONDS
            if units := self.purse.reclaim():
                self.say(f"{units} units had back of tickets that were not used up")
        self._seal()

    def close(self) -> None:
        """Give everything back. Commitments that are not revealed stay in the journal."""
        if self._probe is not None:
            self._probe.close(patience=0.5)
        if self.covert is not None:
            self.covert.close()
            if self.covert.web is not None:
                self.covert.web.close()
        self.purse.close()
        self._do("ended")
        self.pool.close()
        self.journal.close()

    # -- duty on chain -----------------------------------------------------------------

    def _reveal(self) -> None:
        if done := self.duty.reveal():
            self.say(f"epoch {self.epoch}: revealed {done} reports")

    def _judge(self) -> None:
        """Verdicts of what was revealed; the end of disputes."""
        for a in self.journal.in_state("revealed"):
            if self.duty.verdict(a.relay, a.epoch):
                self.journal.mark(a, "judged")
                s = self.duty.standing(a.relay)
                if s.epoch == a.epoch:
                    self.say(f"epoch {a.epoch}: {a.relay.hex()[:12]} judged, {_stands(s.reason, s.kbps, s.strikes)}")
        if time.monotonic() < self._conclude_at:
            return
        self._conclude_at = time.monotonic() + min(60.0, self.duty.audit / 100)
        for d in self.pool.unlisted:
            if self.duty.conclude(d.relay):
                self.say(f"{d.relay.hex()[:12]}: the dispute is over, concluded")

    def _plan(self) -> None:
        """Once an epoch: committees, and random times for what is to be measured. Relays that are new join in."""
        known = {d.relay: d for d in self.pool.everything()}
        if self._planned != self.epoch:
            self._planned, self._seen = self.epoch, set()
            # Not all at once: whoever comes second to draw a committee pays gas for nothing.
            self._draw_at = self.epoch * self.duty.audit + secrets.randbelow(min(30, self.duty.commit_for // 20) + 1)
            self._plan_covert(list(known.values()))
        until = self.epoch * self.duty.audit + self.duty.commit_for
        last = until - self.duty.commit_for // LAST_SHARE
        for relay in known:
            if relay in self._seen or self.time >= last:
                continue
            if not self.duty.relay(relay)[1]:
                continue  # not registered (yet)
            early = self.time < self._draw_at and not self.duty.drawn(relay)
            if early or not self.duty.prepare(relay):
                continue  # another time
            self._seen.add(relay)
            if self.duty.place(relay) is None:
                continue
            s = self.duty.standing(relay)
            kind = LONG if s.strikes == 2 or not s.audits else BURST
            kinds = [kind]
            if self.covert is not None and secrets.randbelow(10**6) < self._covert_chance(relay) * 10**6:
                kinds.append(COVERT)
            for k in kinds:
                span = (last - self.time) * self.settings.spread_pct // 100
                at = self.time + secrets.randbelow(max(1, span))
                self.journal.plan(Task(epoch=self.epoch, relay=relay, kind=k, at=at, done=False))
            self.say(f"epoch {self.epoch}: on the committee of {relay.hex()[:12]}, {' and '.join(kinds)}")

    def _covert_chance(self, relay: bytes) -> float:
        """How likely there is a covert audit beside the burst: on a slow line less, for all seats together may use no
        more than COVERT_CAPACITY of what it carries in an epoch."""
        carries = self.duty.relay(relay)[0] * 125 * self.duty.audit
        most = carries * COVERT_CAPACITY / (COMMITTEE * habits.mean_bytes(self.settings.habit))
        return self.settings.covert_share * min(1.0, most)

    def _plan_covert(self, relays: list[Descriptor]) -> None:
        """Covert audits of anybody at any time of the epoch: there is no hour at which it pays to be honest."""
        if self.covert is None or not relays:
            return
        whole, part = divmod(int(self.settings.covert_an_epoch * 1000), 1000)
        for _ in range(whole + (secrets.randbelow(1000) < part)):
            d = relays[secrets.randbelow(len(relays))]
            at = self.time + secrets.randbelow(max(1, (self.epoch + 1) * self.duty.audit - self.time))
            self.journal.plan(Task(epoch=self.epoch, relay=d.relay, kind=COVERT, at=at, done=False))

    # -- measuring -----------------------------------------------------------------------

    def _perform(self, task: Task) -> None:
        d = self.pool.get(task.relay)
        if d is None:
            self.journal.finish(task)
            return
        self._do(f"{task.kind} of {d.relay.hex()[:12]}")
        if task.kind == COVERT:
            self._covertly(d)
        else:
            self._prove(d, task.kind)
        if not self.stop:
            self.journal.finish(task)

    def _covertly(self, target: Descriptor) -> None:
        assert self.covert is not None
        if target not in self.pool.listed:
            return  # no buyer would come
        pages = habits.session(habits.HABITS[self.settings.habit])
        linger = secrets.randbelow(int(LINGER_SECONDS * 1000)) / 1000
        # It may go on into the time to reveal, like a buyer's visit that knows of none, but not so long that it passes;
        # one that begins later has a quarter of it, for there is no hour without covert audits.
        half = self.epoch * self.duty.audit + self.duty.commit_for + self.duty.reveal_for // 2
        latest = max(self._moment(half), time.monotonic() + self.duty.reveal_for / 4)
        self._until = latest if self.journal.to_reveal() else math.inf
        d = self.covert.audit(
            target, self.pool, self.purse, self.settings.covert_url, pages, linger, self._is_over
        )  # fmt: skip
        words = f"{d.right} of {d.wanted} bytes arrived" if d.known else "says nothing"
        self._note(target.relay, COVERT, evidence.canonical(asdict(d)), -1, 0 if d.share > 0.5 or not d.known else 1,
                   f"{words}{': ' + d.why if d.why else ''}", d)  # fmt: skip

    def _prove(self, target: Descriptor, kind: str) -> None:
        claim, state = self.duty.relay(target.relay)
        if not state:
            return
        if not self.duty.drawn(target.relay):
            self.duty.prepare(target.relay)  # the block that had the committee is gone
        if self.duty.place(target.relay) is None or self._too_late(target.relay):
            return
        self._until = self._moment(self.epoch * self.duty.audit + self.duty.commit_for)
        if self._probe is None:
            self._probe = Probe(_Small(self.purse))
            self._probe.stopped = self._is_over
        auditor = Auditor(self._probe, self.settings.hops, self.settings.tries, self._is_over)
        ms = self.settings.long_ms if kind == LONG else self.settings.burst_ms
        covert = self._covert_results(target.relay)
        try:
            report = auditor.audit(target, self.pool.listed, self.pool.audited, claim, ms, covert)
        except Stopped:
            report = None
        if self._is_over():  # what was broken off accuses nobody
            if not self.stop:
                self.say(f"{target.relay.hex()[:12]}: broken off, the time to report is over")
            return
        if report is None:
            self.say(f"{target.relay.hex()[:12]}: nothing could be measured, nothing is reported")
            return
        for m in report.all:
            words = REASONS[m.reason] if m is not report.best else report.why
            self._note(m.relay, kind, evidence.record(m, self.epoch, int(time.time())), m.kbps, m.reason, words)
        if self._too_late(target.relay):
            return
        self._commit(target, report, suspended=state == SUSPENDED)

    def _moment(self, chain_time: int) -> float:
        """When the chain's clock shows `chain_time`, in monotonic seconds."""
        return time.monotonic() + chain_time - self.duty.now()

    def _is_over(self) -> bool:
        """Whether a measurement is to be broken off. Circuit after circuit may say nothing for minutes, and what is not
        revealed meanwhile costs a part of the bond."""
        return self.stop or time.monotonic() >= self._until

    def _too_late(self, relay: bytes) -> bool:
        """Whether the time to commit is over: a report could not be given any more."""
        late = self.duty.now() >= self.epoch * self.duty.audit + self.duty.commit_for
        if late:
            self.say(f"epoch {self.epoch}: {relay.hex()[:12]}: too late to report")
        return late

    def _covert_results(self, relay: bytes) -> list[Seen]:
        found = []
        for r in self.journal.covert(relay, int(time.time()) - COVERT_SECONDS):
            d = json.loads(r.body)
            if d["known"] and d["wanted"]:
                found.append(Seen(d["right"] / d["wanted"], d["wrong"]))
        return found

    def _commit(self, target: Descriptor, report: Report, suspended: bool) -> None:
        best = report.best
        best.reason, best.kbps = report.reason, report.kbps
        body = evidence.canonical({**asdict(best), "epoch": self.epoch, "time": int(time.time()), "why": report.why})
        a = self.duty.commit(target.relay, pack(best, *prefixes(target)), body)
        self.say(f"epoch {a.epoch}: {target.relay.hex()[:12]}{' (suspended)' if suspended else ''} {report.why}")

    def _note(
        self, relay: bytes, kind: str, body: bytes, kbps: int, reason: int, why: str, d: Delivery | None = None
    ) -> None:
        self.journal.note(Record(relay=relay, epoch=self.epoch, kind=kind, time=int(time.time()), reason=reason,
                                 kbps=kbps, why=why, body=body))  # fmt: skip
        if d is not None:
            self.say(f"covert audit of {relay.hex()[:12]}: {why}")

    # -- evidence --------------------------------------------------------------------------

    def _seal(self) -> None:
        """Sign the roots of epochs whose verdicts are due, and post what was measured openly. Raises
        requests.RequestException: the next round posts it again."""
        for epoch in self.journal.unsealed(self.epoch):
            records = self.journal.records(epoch)
            leaves = [r.body for r in records]
            value = evidence.root(leaves)
            signature = evidence.sign_root(self.chain.account, epoch, value)
            sealed = self.journal.seal(Root(epoch=epoch, root=value, signature=signature, posted=False))
            if self.settings.post_evidence:
                self._post(sealed, records, leaves)
            self.journal.posted(epoch)

    def _post(self, sealed: Root, records: list[Record], leaves: list[bytes]) -> None:
        shown = []
        shows = {a.relay for a in self.journal.of_epoch(sealed.epoch) if a.state in ("revealed", "judged")}
        for i, r in enumerate(records):
            if r.kind != COVERT and r.relay in shows and _proved(r):
                siblings = [{"left": left, "hash": sibling.hex()} for left, sibling in evidence.path(leaves, i)]
                shown.append({"record": r.body.decode(), "path": siblings})
        if shown:
            body = {"verifier": self.chain.address, "epoch": sealed.epoch, "root": sealed.root.hex(),
                    "sig": sealed.signature.hex(), "records": shown[:64]}  # fmt: skip
            try:
                post(self.pool._session, self.settings.gateway.url + "/v1/evidence", body)
                self.say(f"epoch {sealed.epoch}: evidence posted, {len(shown)} measurements")
            except NotTaken as e:
                self.say(f"epoch {sealed.epoch}: the gateway takes no evidence: {e}")


class _Small:
    """The smallest tickets first: a burst uses little of them."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse

    def take(self, region: int) -> Ticket:
        return self._purse.take_small(region)


def _proved(r: Record) -> bool:
    """Whether the relay's signed statement bears the rate out: it is one datagram, which may be lost."""
    return not r.kbps or bool(json.loads(r.body)["close"])


def _stands(reason: int, kbps: int, strikes: int) -> str:
    """In words what the contract holds of a relay; its reason is that of the last verdict that was conclusive."""
    words = ("", ", under suspicion", ", suspended")[min(strikes, 2)]
    if reason == 0 and kbps == 0:
        return f"no conclusive verdict so far{words}"
    return f"{REASONS[min(reason, 5)]}, {kbps} kbit/s{words}"
