"""`bw proxy`: a tunnel for single programs, without root.

A child process in a user and a network namespace of its own holds the TUN; that namespace has no other way out, so that
nothing can go past the tunnel. The listening sockets are the parent's and stay in the machine's network, where programs
find SOCKS5 (RFC 1928, CONNECT) and HTTP CONNECT (RFC 9110) on localhost; what the child connects to, it connects to
through the TUN. Names are resolved in there too, by the resolvers of the settings.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import ipaddress
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bwrouter.platform import net

from .killswitch import Endpoint
from .settings import Settings

_libc = ctypes.CDLL(None, use_errno=True)
_NEWUSER, _NEWNET, _NEWNS = 0x10000000, 0x40000000, 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1
CONNECT_SECONDS = 20.0
Open = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class ProxyError(OSError):
    """The proxy can't be had; the text says why and what would help."""


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise ProxyError(code, f"{what}: {os.strerror(code)}")


def listen(port: int) -> socket.socket:
    """A listening socket on localhost. Raises ProxyError."""
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", port))
    except OSError as e:
        raise ProxyError(e.errno, f"port {port} of localhost cannot be had: {e.strerror}; choose another") from e
    s.listen(128)
    return s


# -- the namespace ---------------------------------------------------------------------


class Cell:
    """The child with its namespace: `tun` is the descriptor of its TUN; `address` gives it the inner addresses."""

    def __init__(self, settings: Settings, socks: socket.socket, http: socket.socket | None) -> None:
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent, uid, gid = os.getpid(), os.getuid(), os.getgid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self.near.close()
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() == parent:
                    _child(settings, far, socks, http, uid, gid)
                code = 0
            except BaseException as e:
                with contextlib.suppress(OSError):
                    far.send(b"!" + str(e).encode())
            finally:
                os._exit(code)
        far.close()
        message, control, _, _ = self.near.recvmsg(4096, socket.CMSG_SPACE(4))
        if message != b"tun" or not control:
            os.waitpid(self.pid, 0)
            said = message[1:].decode(errors="replace")
            raise ProxyError(f"no namespace can be made: {said}; are unprivileged user namespaces allowed here?")
        fds = array.array("i")
        fds.frombytes(control[0][2][:4])
        self.tun = fds[0]

    protected = True  # there is no way past the tunnel
    was_closed = False
    mark = 0

    def protect(self, endpoints: list[Endpoint]) -> None:
        """Nothing to do: the namespace has no other way out."""

    def allow(self, endpoints: list[Endpoint]) -> None:
        """Nothing to do."""

    def carry(self, mtu: int, v4: str, v6: str) -> int:
        """The TUN, with its addresses set. Raises ProxyError."""
        self.mtu = mtu
        self.address(v4, v6, mtu)
        return self.tun

    def readdress(self, v4: str, v6: str) -> None:
        """Other inner addresses."""
        self.address(v4, v6, self.mtu)

    def refresh(self) -> None:
        """Nothing to do."""

    def release(self, keep_closed: bool) -> None:
        """End the child; its namespace goes with it."""
        self.close()

    def address(self, v4: str, v6: str, mtu: int) -> None:
        """Set, or change, the inner addresses. Raises ProxyError."""
        self.near.send(f"{v4} {v6} {mtu}".encode())
        if self.near.recv(4096) != b"ok":
            raise ProxyError("the namespace's addresses cannot be set")

    def close(self) -> None:
        """End the child; its namespace goes with it."""
        self.near.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _child(
    s: Settings, far: socket.socket, socks: socket.socket, http: socket.socket | None, uid: int, gid: int
) -> None:
    _check(_libc.unshare(_NEWUSER | _NEWNET | _NEWNS), "unshare of user, network and mount namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _own_resolver(s.dns)
    fd = net.open_tun(s.tun)
    far.sendmsg([b"tun"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    net.close(fd)
    asyncio.run(_serve(s.tun, far, socks, http))


def _own_resolver(servers: list[str]) -> None:
    """resolv.conf of our own, and no way to the machine's resolver daemons, which would ask past the tunnel."""
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")
    targets = {name: Path("/etc", name).resolve() for name in ("resolv.conf", "nsswitch.conf")}
    there = {name: target.exists() for name, target in targets.items()}
    texts = {"resolv.conf": "".join(f"nameserver {a}\n" for a in servers), "nsswitch.conf": "hosts: files dns\n"}
    _check(_libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None), "mount of an empty /run")
    for name, target in targets.items():
        if target.is_relative_to("/run"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(texts[name])
        elif there[name]:
            source = Path("/run", f"bw-{name}")
            source.write_text(texts[name])
            _check(_libc.mount(bytes(source), bytes(target), None, _MS_BIND, None), f"mount of {target}")


def _configure(tun: str, text: str) -> None:
    v4, v6, mtu = text.split()
    script = f"""addr flush dev {tun}
link set lo up
link set {tun} mtu {mtu} up
addr replace {v4}/32 dev {tun}
route replace default dev {tun}
"""
    if Path("/proc/sys/net/ipv6").exists():
        script += f"addr replace {v6}/128 dev {tun}\n-6 route replace default dev {tun}\n"
    for line in script.splitlines():
        subprocess.run(["ip", *line.split()], check=True, capture_output=True)


async def _serve(tun: str, far: socket.socket, socks: socket.socket, http: socket.socket | None) -> None:
    loop = asyncio.get_running_loop()
    far.setblocking(False)
    servers = [await asyncio.start_server(lambda r, w: _guarded(_socks, r, w), sock=socks)]
    if http is not None:
        servers.append(await asyncio.start_server(lambda r, w: _guarded(_http, r, w), sock=http))
    while message := await loop.sock_recv(far, 4096):
        try:
            await asyncio.to_thread(_configure, tun, message.decode())
            await loop.sock_sendall(far, b"ok")
        except (subprocess.CalledProcessError, ValueError) as e:
            await loop.sock_sendall(far, b"!" + str(e).encode())


# -- the two protocols -------------------------------------------------------------------


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _guarded(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError):
        await handler(reader, writer)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _open(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(asyncio.open_connection(host, port, limit=1 << 18), CONNECT_SECONDS)


async def _socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connect: Open = _open) -> None:
    """RFC 1928: no authentication, CONNECT only."""
    version, methods = await reader.readexactly(2)
    offered = await reader.readexactly(methods)
    if version != 5 or 0 not in offered:
        writer.write(b"\x05\xff")
        return await writer.drain()
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if kind == 1:
        host = str(ipaddress.IPv4Address(await reader.readexactly(4)))
    elif kind == 4:
        host = str(ipaddress.IPv6Address(await reader.readexactly(16)))
    elif kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii")
    else:
        return await _socks_reply(writer, 8)
    (port,) = struct.unpack(">H", await reader.readexactly(2))
    if command != 1:
        return await _socks_reply(writer, 7)
    try:
        there = await connect(host, port)
    except socket.gaierror:
        return await _socks_reply(writer, 4)
    except ConnectionRefusedError:
        return await _socks_reply(writer, 5)
    except (OSError, TimeoutError):
        return await _socks_reply(writer, 1)
    await _socks_reply(writer, 0)
    await _pump(reader, writer, *there)
    return None


async def _socks_reply(writer: asyncio.StreamWriter, code: int) -> None:
    writer.write(struct.pack(">BBBBIH", 5, code, 0, 1, 0, 0))
    await writer.drain()


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connect: Open = _open) -> None:
    """CONNECT (RFC 9110, section 9.3.6) only."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_SECONDS)).decode("latin-1")
    words = head.split("\r\n", 1)[0].split(" ")
    host, _, port = (words[1] if len(words) == 3 else "").rpartition(":")
    if words[0] != "CONNECT" or not host or not port.isdigit():
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Length: 0\r\n\r\n")
        return await writer.drain()
    try:
        there = await connect(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as e:
        said = b"504 Gateway Timeout" if isinstance(e, TimeoutError) else b"502 Bad Gateway"
        writer.write(b"HTTP/1.1 " + said + b"\r\nContent-Length: 0\r\n\r\n")
        return await writer.drain()
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await writer.drain()
    await _pump(reader, writer, *there)
    return None


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far: asyncio.StreamReader, near: asyncio.StreamWriter
) -> None:
    async def one(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()

    try:
        await asyncio.gather(one(reader, near), one(far, writer))
    finally:
        near.close()


# -- the command ---------------------------------------------------------------------------


def serve(
    settings: Settings, socks_port: int, http_port: int, said: Callable[[str, str], None] | None = None
) -> int:
    """Until interrupted; the exit code. `said(state, reason)` is told each state."""
    from .up import Up

    try:
        cell = Cell(settings, listen(socks_port), listen(http_port) if http_port else None)
    except OSError as e:
        print(e, file=sys.stderr)
        return 1
    return Up(settings, said, cell).run()
