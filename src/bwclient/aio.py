"""The tunnel for programs: `from bwclient import Tunnel`.

    async with Tunnel("client.json", hops=3) as tunnel:
        reader, writer = await tunnel.connect("example.org", 443)

It is the tunnel of `bw proxy`: no root, nothing of the machine is changed, and what is opened with `connect` has no way
past it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from .files import read_json, write_json
from .settings import Settings, default_file, load


class TunnelError(OSError):
    """The tunnel could not be had, or was lost; the text says why."""


class Tunnel:
    """An async context manager. `config`: a settings file or None for the usual one; `options`: settings that override
    it (hops, exit_region, profile, padding, priority). Raises SettingsError at once, TunnelError from `async with`."""

    def __init__(self, config: str | Path | None = None, *, wait: float = 60.0, **options: Any) -> None:
        self._config = str(config or default_file())
        self._options = options
        self.settings: Settings = load(self._config, options)
        self._wait = wait
        self._child: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.socks_port = 0
        """Of localhost: SOCKS5, for what `connect` does not suit."""
        self.http_port = 0
        """Of localhost: HTTP CONNECT."""

    async def __aenter__(self) -> Tunnel:
        self._folder = tempfile.TemporaryDirectory(prefix="bwclient-")
        self.socks_port, self.http_port = _free_port(), _free_port()
        settings = self.settings.model_dump() | {"run_dir": self._folder.name}
        path = Path(self._folder.name, "client.json")
        write_json(path, settings)
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bwclient", "proxy", "--config", str(path), "--socks", str(self.socks_port), "--http",
            str(self.http_port), stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._wait):
                while self.status().get("state") != "up":
                    if self._child.returncode is not None:
                        raise TunnelError(f"the tunnel could not be had: {await self._said()}")
                    await asyncio.sleep(0.05)
        except BaseException as e:
            await self._end()
            if isinstance(e, TimeoutError):
                raise TunnelError(f"the tunnel was not up after {self._wait:.0f} s") from None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        await self._end()

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection through the tunnel; a name is resolved at the far side. Raises TunnelError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.socks_port)
        name = host.encode("idna")
        writer.write(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", port))
        try:
            await reader.readexactly(2)
            answer = await reader.readexactly(10)
        except (asyncio.IncompleteReadError, OSError) as e:
            raise TunnelError(f"{host}:{port}: the tunnel is gone") from e
        if answer[1]:
            writer.close()
            words = {4: "the name is not known", 5: "connection refused"}
            raise TunnelError(f"{host}:{port}: {words.get(answer[1], 'not reachable')}")
        return reader, writer

    def status(self) -> dict[str, Any]:
        """What `bw status --json` shows."""
        return read_json(Path(self._folder.name, "status.json")) if self._folder else {}

    async def _said(self) -> str:
        assert self._child is not None and self._child.stderr is not None
        return (await self._child.stderr.read()).decode(errors="replace").strip()[-500:]

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(15):
                    await child.communicate()
            if child.returncode is None:
                child.kill()
                await child.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
