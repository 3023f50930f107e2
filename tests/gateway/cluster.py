"""Several gateway processes over one ledger, one chain and one set of keys; the chain is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bwgateway.chain.anvil import find_binary
from tests.gateway.rig import ROOT, Rig, free_port

COINS = hex(10**24)


@contextmanager
def node(folder: Path) -> Iterator[str]:
    """URL of a fresh anvil that outlives the gateways."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--block-time", "1", "--accounts", "1", "--silent"]
    process = subprocess.Popen(
        [str(find_binary("")), *options], env={"HOME": str(folder), "PATH": os.environ["PATH"]}, cwd=folder
    )
    try:
        rpc(url, "eth_chainId", wait=20)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def rpc(url: str, method: str, *params: Any, wait: float = 0) -> Any:
    """One JSON-RPC call; tries again for `wait` seconds while nothing listens."""
    deadline = time.monotonic() + wait
    while True:
        try:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = requests.post(url, json=body, timeout=20).json()
            return answer["result"]
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def cluster(folder: Path, database_url: str, count: int, **changes: Any) -> Iterator[list[Rig]]:
    """`count` gateways. The contracts are put on the chain by `bwgateway deploy`, as on any chain."""
    with node(folder / "chain") as url:
        rigs = [_member(folder / f"gateway{i}", folder, url, database_url, changes) for i in range(count)]
        deploy(rigs[0], url)
        try:
            for rig in rigs:
                rig.start()
            yield rigs
        finally:
            for rig in rigs:
                if rig.process is not None and rig.process.poll() is None:
                    rig.stop()


def deploy(rig: Rig, url: str) -> None:
    """`bwgateway deploy` on a chain that the treasury has coins on."""
    rig.write_config()
    keys = json.loads(_run(rig, "keys", "--json"))
    for account in (keys["treasury"], keys["operator"]):
        rpc(url, "anvil_setBalance", account, COINS)
    _run(rig, "deploy")


def _member(own: Path, shared: Path, url: str, database_url: str, changes: dict[str, Any]) -> Rig:
    chain = {"rpc": url, "stake_cache_seconds": 60}
    rig = Rig(own, state_dir=str(shared / "state"), chain=chain, database_url=database_url, **changes)
    rig.rpc = url
    rig.state = shared / "state"
    return rig


def _run(rig: Rig, *arguments: str) -> str:
    run = subprocess.run(
        rig.command(*arguments), env=rig.environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout
