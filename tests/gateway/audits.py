"""Real audits on a gateway's own chain: eight verifiers, a seed by headers, commit, reveal, verdict."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from web3 import HTTPProvider, Web3

from bwgateway.chain.artifacts import Artifacts
from tests.contracts.deployment import ETHER, Deployment
from tests.contracts.headers import epoch_headers
from tests.gateway.rig import Rig

AUDIT, COMMIT, REVEAL = 600, 200, 200
WINDOWS = {"audit_epoch": AUDIT, "commit": COMMIT, "reveal": REVEAL, "dispute": 300, "unbonding": 2000}
VERIFIERS = 8


class Auditors:
    """Verifiers with bonds. Transactions are sent by anvil for accounts whose keys nobody needs."""

    def __init__(self, rig: Rig) -> None:
        w3 = Web3(HTTPProvider(rig.rpc))
        artifacts, contracts = Artifacts(), rig.get("/v1/info")["contracts"]

        def at(name: str, address: str) -> Any:
            return w3.eth.contract(address=Web3.to_checksum_address(address), abi=artifacts.abi(name))

        treasury = rig.treasury().address
        proof, bwt = at("BandwidthProof", contracts["proof"]), at("BandwidthToken", contracts["token"])
        registry = at("StakeRegistry", contracts["registry"])
        self.d = Deployment(w3, treasury, None, bwt, None, registry, None, proof, None, None, None)
        self._rpc("anvil_autoImpersonateAccount", True)
        self._rpc("evm_setAutomine", True)
        for verifier in [Account.create().address for _ in range(VERIFIERS)]:
            self._rpc("anvil_setBalance", verifier, hex(10**20))
            self.d.send(bwt.functions.transfer(verifier, 1_000 * ETHER))
            self.d.send(bwt.functions.approve(proof.address, 1_000 * ETHER), verifier)
            self.d.send(proof.functions.join(2**32, b""), verifier)
        self._warp(self._now() + 2 * AUDIT)

    def _rpc(self, method: str, *params: Any) -> None:
        answer = self.d.w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, answer

    def _now(self) -> int:
        return int(self.d.w3.eth.get_block("latest")["timestamp"])

    def _warp(self, time: int) -> None:
        self._rpc("evm_mine", hex(time))

    def audit(self, relay: bytes, reports: list[tuple[int, int]]) -> int:
        """One epoch in which the committee's four seats report these (kbit/s, reason); the epoch."""
        d, f = self.d, self.d.proof.functions
        start = (self._now() // AUDIT + 1) * AUDIT
        self._warp(start - 1)
        self._warp(start + 1)
        self._warp(start + 2)
        d.send(f.setSeed(*epoch_headers(d.w3, start)))
        d.send(f.assemble(relay))
        epoch = f.currentEpoch().call()
        packed, seats = f.committeeOf(relay, epoch).call(), f.seats().call()
        members = [seats[(packed >> 16 * i & 0xFFFF) - 1] for i in range(4)]
        packs = [f.pack((kbps, 20 + i, 5 * i, reason, 0xC61200, 0)).call() for i, (kbps, reason) in enumerate(reports)]
        for place, (member, report) in enumerate(zip(members, packs, strict=True)):
            d.send(f.commit(relay, place, f.commitment(member, relay, epoch, report, bytes(32)).call()), member)
        self._warp(start + COMMIT + 1)
        for place, (member, report) in enumerate(zip(members, packs, strict=True)):
            d.send(f.reveal(relay, place, report, bytes(32)), member)
        self._warp(start + COMMIT + REVEAL + 1)
        d.send(f.verdict(relay, epoch))
        return int(epoch)
