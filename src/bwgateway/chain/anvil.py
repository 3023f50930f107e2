"""The embedded chain: an anvil child whose state survives.

anvil's own `--state` is written only on a clean exit, or in place; so the state is fetched by RPC (`anvil_dumpState`)
and written tmp + fsync + rename: on a timer, at shutdown, and whenever the gateway is about to rely on what it read
(`make_durable`). The child dies with the gateway.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import structlog

from bwgateway.settings import BadSettings, ChainSettings

log = structlog.get_logger()
_PR_SET_PDEATHSIG = 1
_START_SECONDS = 20.0


class ChainDown(Exception):
    """The embedded node did not start or has died."""


def find_binary(setting: str) -> Path:
    """Path of anvil: the setting, else npm's in build/node above the working or this directory, else PATH."""
    if setting:
        if not Path(setting).is_file():
            raise BadSettings(f"chain.anvil: {setting!r} is not a file")
        return Path(setting)
    for root in [Path.cwd(), *Path(__file__).resolve().parents]:
        found = sorted(root.glob("build/node/node_modules/@foundry-rs/anvil-*/bin/anvil"))
        if found:
            return found[0]
    on_path = shutil.which("anvil")
    if on_path is None:
        raise BadSettings(
            "chain.anvil: '' and no anvil in build/node or PATH; install npm @foundry-rs/anvil or name it"
        )
    return Path(on_path)


class Anvil:
    """One anvil process with its state file in `folder`."""

    def __init__(self, settings: ChainSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._state = folder / "chain.state"
        self._process: asyncio.subprocess.Process | None = None
        self._dumping = asyncio.Lock()
        self._dumped_block = -1
        self._client = httpx.AsyncClient(timeout=60.0, trust_env=False)
        self.port = settings.port or _free_port(settings.host)

    @property
    def url(self) -> str:
        """Where this process reaches the node."""
        host = "127.0.0.1" if self._settings.host in ("0.0.0.0", "") else self._settings.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Start the node, wait until it answers, load the state if there is one. Raises ChainDown."""
        binary = find_binary(self._settings.anvil)
        home = self._folder / "anvil-home"
        home.mkdir(parents=True, exist_ok=True)
        libc = ctypes.CDLL(None)
        self._process = await asyncio.create_subprocess_exec(
            str(binary),
            *("--host", self._settings.host, "--port", str(self.port), "--chain-id", str(self._settings.chain_id)),
            *("--block-time", str(self._settings.block_seconds), "--accounts", "1", "--silent"),
            stdin=asyncio.subprocess.DEVNULL,
            env={"HOME": str(home), "PATH": os.environ.get("PATH", "")},
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        deadline = time.monotonic() + _START_SECONDS
        while not await self._answers():
            if self._process.returncode is not None:
                raise ChainDown(f"anvil exited with {self._process.returncode}; is port {self.port} taken?")
            if time.monotonic() > deadline:
                raise ChainDown(f"anvil gave no answer on {self.url} for {_START_SECONDS:.0f} s")
            await asyncio.sleep(0.02)
        if self._state.exists():
            await self.rpc("anvil_loadState", [self._state.read_text(encoding="ascii")])
            self._dumped_block = await self._block()
        log.info("chain.started", url=self.url, block=await self._block(), resumed=self._dumped_block >= 0)

    async def _answers(self) -> bool:
        try:
            return int(await self.rpc("eth_chainId", []), 16) == self._settings.chain_id
        except (httpx.HTTPError, ValueError):
            return False

    async def rpc(self, method: str, params: list[Any]) -> Any:
        """One JSON-RPC call to the node. Raises ChainDown with the node's message."""
        answer = await self._client.post(self.url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        body = json.loads(answer.content)
        if "error" in body:
            raise ChainDown(f"{method}: {body['error'].get('message')}")
        return body["result"]

    async def _block(self) -> int:
        return int(await self.rpc("eth_blockNumber", []), 16)

    async def make_durable(self) -> int:
        """Write the state unless the newest block is written already; the block that is now safe."""
        async with self._dumping:
            block = await self._block()
            if block <= self._dumped_block:
                return self._dumped_block
            state = await self.rpc("anvil_dumpState", [])
            await asyncio.to_thread(_replace, self._state, state.encode("ascii"))
            self._dumped_block = block
            return block

    async def run(self) -> None:
        """Dump on the timer until cancelled. Raises ChainDown when the node dies."""
        assert self._process is not None
        while True:
            try:
                await asyncio.wait_for(self._process.wait(), self._settings.dump_seconds)
            except TimeoutError:
                await self.make_durable()
            else:
                raise ChainDown(f"anvil exited with {self._process.returncode}")

    async def stop(self) -> None:
        """Dump once more and end the node."""
        if self._process is not None and self._process.returncode is None:
            try:
                await self.make_durable()
            finally:
                self._process.terminate()
                try:
                    await asyncio.wait_for(self._process.wait(), 5)
                except TimeoutError:
                    self._process.kill()
                    await self._process.wait()
        await self._client.aclose()


def _free_port(host: str) -> int:
    with socket.socket() as s:
        s.bind((host, 0))
        return int(s.getsockname()[1])


def _replace(path: Path, content: bytes) -> None:
    tmp = path.with_name(path.name + ".tmp")
    with open(tmp, "wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    os.replace(tmp, path)
    fd = os.open(path.parent, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
