"""A beacon chain of the test's own: 512 keys, blocks, states, and a node that serves them, out of other people's code.

Signatures are py-ecc's, containers and their roots and branches remerkleable's, so they are oracles for `bwgateway.beacon`.
States and bodies have the right number of fields; those that a light client does not look at are roots of nothing.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from py_ecc.bls import G2ProofOfPossession as bls
from py_ecc.bls.g2_primitives import G1_to_pubkey
from py_ecc.optimized_bls12_381 import G1, add, curve_order, multiply
from remerkleable.basic import uint64, uint256
from remerkleable.byte_arrays import ByteList, Bytes4, Bytes32, Bytes48, ByteVector
from remerkleable.complex import Container, Vector

from bwgateway.beacon.network import FORKS, Network

SIZE = 512


class BeaconBlockHeader(Container):
    slot: uint64
    proposer_index: uint64
    parent_root: Bytes32
    state_root: Bytes32
    body_root: Bytes32


class Checkpoint(Container):
    epoch: uint64
    root: Bytes32


class SyncCommittee(Container):
    pubkeys: Vector[Bytes48, SIZE]
    aggregate_pubkey: Bytes48


class ForkData(Container):
    current_version: Bytes4
    genesis_validators_root: Bytes32


class SigningData(Container):
    object_root: Bytes32
    domain: Bytes32


class CapellaPayload(Container):
    parent_hash: Bytes32
    fee_recipient: ByteVector[20]
    state_root: Bytes32
    receipts_root: Bytes32
    logs_bloom: ByteVector[256]
    prev_randao: Bytes32
    block_number: uint64
    gas_limit: uint64
    gas_used: uint64
    timestamp: uint64
    extra_data: ByteList[32]
    base_fee_per_gas: uint256
    block_hash: Bytes32
    transactions_root: Bytes32
    withdrawals_root: Bytes32


class DenebPayload(CapellaPayload):
    blob_gas_used: uint64
    excess_blob_gas: uint64


def container(name: str, count: int, **special: Any) -> Any:
    """A container of `count` fields, `f0`, `f1` ... roots but for the special ones."""
    fields = {f"f{i}": special.get(f"f{i}", Bytes32) for i in range(count)}
    return type(name, (Container,), {"__annotations__": fields})


_STATE = {"f20": Checkpoint, "f22": SyncCommittee, "f23": SyncCommittee}
STATES = {"capella": container("State", 28, **_STATE), "deneb": container("State", 28, **_STATE)}
STATES["electra"] = container("ElectraState", 37, **_STATE)
BODIES = {
    "capella": container("Body", 11, f9=CapellaPayload),
    "deneb": container("DenebBody", 12, f9=DenebPayload),
    "electra": container("ElectraBody", 13, f9=DenebPayload),
}


def branch(view: Any, gindex: int) -> list[str]:
    """Siblings from a node upward."""
    node, found = view.get_backing(), []
    while gindex > 1:
        found.append("0x" + bytes(node.getter(gindex ^ 1).merkle_root()).hex())
        gindex >>= 1
    return found


def root(view: Any) -> bytes:
    return bytes(view.hash_tree_root())


class Keys:
    """A committee of 512; its secrets are consecutive, so that keys and sums are cheap."""

    def __init__(self, first: int) -> None:
        self._first = first
        point, keys = multiply(G1, first), []
        for _ in range(SIZE):
            keys.append(bytes(G1_to_pubkey(point)))
            point = add(point, G1)
        everybody = bytes(bls.SkToPk(sum(first + i for i in range(SIZE)) % curve_order))
        self.committee = SyncCommittee(pubkeys=keys, aggregate_pubkey=everybody)

    def sign(self, message: bytes, absent: int = 0) -> dict[str, str]:
        """The aggregate of all but the first `absent`."""
        secret = sum(self._first + i for i in range(absent, SIZE)) % curve_order
        bits = bytes(sum((8 * k + j >= absent) << j for j in range(8)) for k in range(SIZE // 8))
        signature = bytes(bls.Sign(secret, message))
        return {"sync_committee_bits": "0x" + bits.hex(), "sync_committee_signature": "0x" + signature.hex()}


def to_json(view: Any) -> Any:
    """As the beacon API writes it."""
    if isinstance(view, Container):
        return {name: to_json(getattr(view, name)) for name in view.fields()}
    if isinstance(view, uint64 | uint256):
        return str(int(view))
    if isinstance(view, Vector):
        return [to_json(entry) for entry in view]
    return "0x" + bytes(view).hex()


class Block:
    """A beacon block with its state's root and its body's execution header."""

    def __init__(self, network: Network, slot: int, payload: dict[str, Any], final: bytes, now: Any, then: Any) -> None:
        fork = network.fork(slot)
        self.fork = "electra" if FORKS.index(fork) >= FORKS.index("electra") else fork
        self.state = STATES[self.fork](f20=Checkpoint(epoch=slot // 32, root=final), f22=now, f23=then)
        kind = CapellaPayload if self.fork == "capella" else DenebPayload
        known = {name: value for name, value in payload.items() if name in kind.fields()}
        self.body = BODIES[self.fork](f9=kind(**known))
        self.header = BeaconBlockHeader(
            slot=slot, proposer_index=slot % 97, parent_root=bytes(32), state_root=root(self.state),
            body_root=root(self.body),
        )  # fmt: skip

    @property
    def root(self) -> bytes:
        return root(self.header)

    @property
    def json(self) -> dict[str, Any]:
        return {
            "beacon": to_json(self.header),
            "execution": to_json(self.body.f9),
            "execution_branch": branch(self.body, 25),
        }

    def branch_of(self, before_electra: int, since: int) -> list[str]:
        return branch(self.state, since if self.fork == "electra" else before_electra)


class BeaconChain:
    """Committees by period, and the documents of the API."""

    def __init__(self, network: Network, periods: int) -> None:
        self.network = network
        self.keys = [Keys(10_000 * (i + 1)) for i in range(periods + 2)]

    def block(self, slot: int, final: bytes = bytes(32), **payload: Any) -> Block:
        period = slot // 8192
        now, then = self.keys[period].committee, self.keys[period + 1].committee
        return Block(self.network, slot, payload, final, now, then)

    def bootstrap(self, block: Block) -> dict[str, Any]:
        return {
            "header": block.json,
            "current_sync_committee": to_json(block.state.f22),
            "current_sync_committee_branch": block.branch_of(54, 86),
        }

    def update(self, attested: Block, final: Block | None, slot: int, absent: int = 0, by: int = -1) -> dict[str, Any]:
        """An update signed at `slot` by the committee of its period (or of period `by`)."""
        keys = self.keys[slot // 8192 if by < 0 else by]
        version = self.network.forks[self.network.fork(slot - 1)][0]
        data = ForkData(current_version=version, genesis_validators_root=self.network.genesis_validators_root)
        domain = bytes((7, 0, 0, 0)) + root(data)[:28]
        message = root(SigningData(object_root=attested.root, domain=domain))
        document = {
            "attested_header": attested.json,
            "sync_aggregate": keys.sign(message, absent),
            "signature_slot": str(slot),
            "next_sync_committee": to_json(attested.state.f23),
            "next_sync_committee_branch": attested.branch_of(55, 87),
        }
        if final is not None:
            document |= {"finalized_header": final.json, "finality_branch": attested.branch_of(105, 169)}
        return document

    def pair(self, slot: int, absent: int = 0, by: int = -1, **payload: Any) -> dict[str, Any]:
        """An update whose attested block at `slot` has a final one 64 slots before."""
        final = self.block(slot - 64, **payload)
        attested = self.block(slot, final.root, **payload)
        return self.update(attested, final, slot + 1, absent, by)


Lie = Callable[[str, Any], Any]


class BeaconNode(ThreadingHTTPServer):
    """Serves documents by path; `lie` changes them on the way."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents: dict[str, Any] = {}
        self.lie: Lie | None = None
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, BeaconNode)
        name = self.path.removeprefix("/eth/v1/beacon/light_client/")
        server.asked.append(name)
        found = server.documents.get(name)
        if server.lie is not None and found is not None:
            found = server.lie(name, json.loads(json.dumps(found)))
        raw = json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def beacon_node() -> Iterator[BeaconNode]:
    """A node on a free loopback port."""
    node = BeaconNode()
    threading.Thread(target=node.serve_forever, daemon=True).start()
    try:
        yield node
    finally:
        node.shutdown()
        node.server_close()
