"""What the agent's tests are made of: a gateway with its chain, an agent on MicroPython, a relay played by the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
MICROPYTHON = Path(os.environ.get("MICROPYTHON") or ROOT / "build/micropython/native/micropython")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(what: str, test: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `test`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := test()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return value


class GatewayProcess:
    """`python -m bwgateway serve` with an embedded chain, everything in `folder`."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.port, self.rpc_port = free_port(), free_port()
        self.url, self.rpc = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.rpc_port}"
        settings = {
            "port": self.port,
            "state_dir": str(folder),
            "epoch_seconds": 2,
            "challenge_seconds": 1,
            "chain": {"port": self.rpc_port, "block_seconds": 1},
            **changes,
        }
        folder.mkdir(parents=True)
        self.config = folder / "gateway.json"
        self.settings: dict[str, Any] = settings
        self.log = folder / "gateway.log"
        self.start()

    def start(self) -> None:
        """With the settings as they are now; over what another run has left in the folder."""
        self.config.write_text(json.dumps(self.settings))
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bwgateway", "serve", "--config", str(self.config)]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            self.info = until("the gateway's /v1/info", self._info, 60)
        except AssertionError:
            self.stop()
            raise AssertionError(self.log.read_text()[-3000:]) from None
        self.key: str = self.info["gateway_key"]

    def _info(self) -> Any:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.get("/v1/info")
        except requests.RequestException:
            return None

    def get(self, path: str) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.url + path, timeout=10).json()

    def fund(self, address: str, bwt: int, coin: int = 0) -> None:
        command = [sys.executable, "-m", "bwgateway", "fund", address, "--bwt", str(bwt), "--coin", str(coin)]
        subprocess.run([*command, "--config", str(self.config)], cwd=ROOT, check=True, capture_output=True, timeout=60)

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class AgentProcess:
    """`micropython -m bwrouter agent` in `folder`, in the network namespace `ns` if one is given."""

    def __init__(self, folder: Path, gateways: list[dict[str, str]], ns: str = "", **settings: Any) -> None:
        self.folder = folder
        self.prefix = ["ip", "netns", "exec", ns] if ns else []
        self.run_dir, self.state_dir = folder / "run", folder / "state"
        self.settings = {
            "region": 1,
            "rate_kbps": 20000,
            "uplink_kbps": 20000,
            "listen_port": 51900,
            "public_v4": "198.18.0.11",
            "wan": "lo",
            "gateways": gateways,
            "stake_wei": str(20 * 10**18),
            "run_dir": str(self.run_dir),
            "state_dir": str(self.state_dir),
            **settings,
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(self.settings))
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(MICROPYTHON), "-m", "bwrouter", *words, "--config", str(self.config)],
            env={**os.environ, "MICROPYPATH": f"{ROOT}/src:.frozen"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, str(MICROPYTHON), "-m", "bwrouter", "agent", "--config", str(self.config)],
                env={**os.environ, "MICROPYPATH": f"{ROOT}/src:.frozen"},
                stdout=log,
                stderr=log,
            )
        until("agent.sock", (self.run_dir / "agent.sock").exists)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        return [int(p) for p in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.run_dir / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self.process.returncode)


class RelayPeer:
    """The relay's end of the control sockets. `messages`: (seconds, message) of all that came; `fds`: descriptors."""

    def __init__(self, agent: AgentProcess) -> None:
        agent.run_dir.mkdir(parents=True, exist_ok=True)
        self.agent = agent
        self.path = agent.run_dir / "relay.sock"
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.fds: list[int] = []

    def pump(self, seconds: float = 0.05) -> None:
        """Take what comes for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                text, fds, _, _ = socket.recv_fds(self.socket, 65536, 1)
            except TimeoutError:
                return
            self.messages.append((time.monotonic(), json.loads(text)))
            self.fds += fds

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Messages of a type that have these fields."""
        return [m for _, m in self.messages if m["t"] == kind and all(m.get(k) == v for k, v in fields.items())]

    def expect(self, kind: str, seconds: float = 15.0, **fields: Any) -> dict[str, Any]:
        """The first such message, waited for."""
        deadline = time.monotonic() + seconds
        while not (found := self.of(kind, **fields)):
            assert time.monotonic() < deadline, f"no {kind} {fields}; {self.agent.log.read_text()[-2000:]}"
            self.pump()
        return found[0]

    def tell(self, message: dict[str, Any], seconds: float = 10.0) -> None:
        """Send it to the agent, which may be starting: what one left behind that was killed refuses until then."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.socket.sendto(json.dumps(message).encode(), str(self.agent.run_dir / "agent.sock"))
                return
            except (ConnectionRefusedError, FileNotFoundError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def hello(self, ready: bool) -> None:
        self.tell({"t": "hello", "version": "test", "runtime": "test", "ready": ready, "exit": False})

    def close(self) -> None:
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.path.unlink(missing_ok=True)
