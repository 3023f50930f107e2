"""A verifier of the soak: some seats in BandwidthProof, real audits over paid circuits, epoch after epoch.

    python -m tests.soak.auditor --config F --seats 2
Keys are `seat0.key` ... beside the settings file. The report `auditor.json` there: epochs, audits, reasons, errors, time.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import requests

from bwclient import directory, settings
from bwclient.chain import Chain, ChainError
from bwclient.meter import NoTicket
from bwclient.purse import Purse
from bwrouter.wire.descriptor import Descriptor
from bwverifier import evidence
from bwverifier.duty import Duty, pack
from bwverifier.journal import Journal
from bwverifier.probe import Probe

BURST_MS, BOND = 300, 1000 * 10**18
FOREVER = 2**32
FAILURES = (ChainError, NoTicket, directory.DirectoryError, requests.RequestException, OSError)


class Auditor:
    """One process with several seats and one purse."""

    def __init__(self, config: Path, seats: int) -> None:
        self.settings = settings.load(str(config))
        self.folder = config.parent
        self.purse = Purse(self.settings)
        contracts = self.purse.wallet.info["contracts"]
        self.duties = []
        for i in range(seats):
            chain = Chain(self.settings.rpc_url, bytes.fromhex((self.folder / f"seat{i}.key").read_text().strip()))
            self.bond(chain, contracts["token"], contracts["proof"])
            self.duties.append(Duty(chain, contracts["proof"], Journal(self.folder / f"seat{i}.sqlite")))
        self.told: dict[str, Any] = {"epochs": 0, "audits": 0, "reveals": 0, "paid_units": 0, "reasons": {}, "errors": 0, "last": ""}
        self.done: set[int] = set()

    @staticmethod
    def bond(chain: Chain, token: str, proof: str) -> None:
        """Join unless this seat has."""
        if chain.call(proof, "verifierOf(address)", ["uint128"], chain.address)[0] == 0:
            chain.send(token, "approve(address,uint256)", proof, BOND)
            chain.send(proof, "join(uint256,bytes)", FOREVER, b"")

    def relays(self) -> list[Descriptor]:
        known = directory.fetch(self.settings.gateway.url, bytes.fromhex(self.settings.gateway.key)).relays
        return sorted(known, key=lambda d: d.relay)

    def turn(self) -> None:
        """What is due in this moment: at the epoch's begin an audit, later reveals, then verdicts."""
        for duty in self.duties:
            self.told["reveals"] += duty.reveal()
        duty = self.duties[0]
        epoch = duty.epoch()
        if epoch in self.done or duty.now() - epoch * duty.audit > duty.commit_for - 8:
            return
        relays = self.relays()
        if not relays:
            return
        target = relays[epoch % len(relays)]  # all verifiers take the same one
        duty.prepare(target.relay)
        seated = [d for d in self.duties if d.place(target.relay) is not None]
        if seated:
            first = random.choice([d for d in relays if d.relay != target.relay and d.exit] or [target])
            way = [target] if first is target else [first, target]
            probe = Probe(self.purse)
            try:
                m = probe.measure(way, len(way) - 1, BURST_MS, target.rate)
            finally:
                probe.close(patience=0.5)
                self.told["paid_units"] += sum(probe.paid().values())
            for d in seated:
                d.commit(target.relay, pack(m, 0xC61200), evidence.record(m, epoch, d.now()))
            print(f"{target.relay.hex()[:8]}: reason {m.reason}, {m.kbps} of {target.rate} kbit/s", flush=True)
            self.told["audits"] += len(seated)
            reasons = self.told["reasons"]
            reasons[str(m.reason)] = reasons.get(str(m.reason), 0) + 1
        self.done.add(epoch)
        self.told["epochs"] += 1
        if len(relays) > 0 and epoch - 1 in self.done:
            duty.verdict(relays[(epoch - 1) % len(relays)].relay, epoch - 1)

    def write(self) -> None:
        draft = self.folder / "auditor.tmp"
        draft.write_text(json.dumps(self.told | {"time": time.monotonic()}))
        draft.rename(self.folder / "auditor.json")


def main() -> int:
    cli = argparse.ArgumentParser(prog="tests.soak.auditor")
    cli.add_argument("--config", type=Path, required=True)
    cli.add_argument("--seats", type=int, default=1)
    args = cli.parse_args()
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    auditor = Auditor(args.config, args.seats)
    auditor.purse.stock_up()
    while not stop:
        try:
            auditor.turn()
        except FAILURES as e:
            auditor.told["errors"] += 1
            auditor.told["last"] = f"{type(e).__name__}: {e}"[:300]
            print(auditor.told["last"], flush=True)
        auditor.write()
        time.sleep(1)
    auditor.purse.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
