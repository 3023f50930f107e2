"""Sockets, poll, unix datagrams with descriptor passing, and TUN, through the C library: alike on both runtimes."""

import socket
import struct

from . import consts, ffi
from .ffi import LIBC, WORD, func

_socket = func(LIBC, "i", "socket", "iii")
_bind = func(LIBC, "i", "bind", "iPI")
_close = func(LIBC, "i", "close", "i")
_setsockopt = func(LIBC, "i", "setsockopt", "iiiPI")
_getsockname = func(LIBC, "i", "getsockname", "iPP")
_recvfrom = func(LIBC, "l", "recvfrom", "iPLiPP")
_sendto = func(LIBC, "l", "sendto", "iPLiPI")
_sendmsg = func(LIBC, "l", "sendmsg", "iPi")
_recvmsg = func(LIBC, "l", "recvmsg", "iPi")
_open = func(LIBC, "i", "open", "PiI")
_ioctl = func(LIBC, "i", "ioctl", "iLP")
_chmod = func(LIBC, "i", "chmod", "PI")
_fcntl = func(LIBC, "i", "fcntl", "iil")
POLL = func(LIBC, "i", "poll", "PLi")  # address of pollfd[], count, milliseconds
READ = func(LIBC, "l", "read", "iPL")
WRITE = func(LIBC, "l", "write", "iPL")
try:
    # glibc's 64-bit form; musl's only form has 64 bits.
    PREAD = func(LIBC, "l", "pread64", "iPLq")
except (OSError, AttributeError):
    PREAD = func(LIBC, "l", "pread", "iPLq")

SOCKADDR_SIZE = 28  # a sockaddr_in6; the one form used on the wire socket


class NetError(OSError):
    """A system call failed; the text names the call, its object and the errno."""


def _check(result, what):
    if result < 0:
        raise NetError(what + ": errno " + str(ffi.errno()))
    return result


def socket_fd(family, kind, protocol):
    """socket(2): a descriptor, or -1 with errno."""
    return _socket(family, kind, protocol)


def close(fd):
    _close(fd)


def pack_addr(ip, port):
    """A 28-byte sockaddr_in6 of a textual IPv4 (v4-mapped) or IPv6 address. Raises ValueError."""
    raw = ip_bytes(ip)
    if len(raw) == 4:
        raw = b"\0" * 10 + b"\xff\xff" + raw
    return struct.pack("H", consts.AF_INET6) + struct.pack(">H", port) + b"\0\0\0\0" + raw + b"\0\0\0\0"


def unpack_addr(sockaddr):
    """(ip bytes of 4 or 16, port) of a sockaddr_in6."""
    raw = bytes(sockaddr[8:24])
    port = sockaddr[2] << 8 | sockaddr[3]
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    return raw, port


def ip_bytes(text):
    """4 or 16 bytes of an IPv4 or IPv6 address in text. Raises ValueError."""
    try:
        return bytes(socket.inet_pton(consts.AF_INET6 if ":" in text else consts.AF_INET, text))
    except (OSError, ValueError):
        raise ValueError("not an IP address: " + repr(text))


def ip_text(raw):
    """Text of 4 or 16 address bytes."""
    return socket.inet_ntop(consts.AF_INET if len(raw) == 4 else consts.AF_INET6, raw)


def cidr_port(rule, what):
    """(prefix bytes, bits, port or 0) of `CIDR`, `CIDR:port` or `[CIDR]:port`. Raises ValueError that names `what`."""
    text, port = rule, "0"
    if rule[:1] == "[":
        text, _, port = rule[1:].partition("]")
        port = port[1:] if port[:1] == ":" else port or "0"
    elif rule.count(":") == 1:
        text, _, port = rule.partition(":")
    host, slash, bits = text.partition("/")
    try:
        raw = ip_bytes(host)
        size = int(bits) if slash else 8 * len(raw)
        number = int(port)
        if not 0 <= size <= 8 * len(raw) or not 0 <= number <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError("setting %s: %r is no CIDR, CIDR:port or [CIDR]:port" % (what, rule))
    return raw, size, number


def set_option(fd, level, option, value):
    """setsockopt with an int; returns 0 or -1."""
    return _setsockopt(fd, level, option, struct.pack("i", value), 4)


# The lower-effort class (RFC 8622): DSCP 1, so TOS and traffic class 0x04.
LE = 0x04


def udp_socket(port, ip="::", reuse_port=False, tos=LE):
    """A bound dual-stack UDP socket (fd). Path MTU discovery without the kernel's cache: datagrams are never
    fragmented.

    Raises NetError when the port is taken or the kernel has no IPv6.
    """
    fd = _check(_socket(consts.AF_INET6, consts.SOCK_DGRAM | consts.O_CLOEXEC, 0), "IPv6 UDP socket")
    set_option(fd, consts.IPPROTO_IPV6, consts.IPV6_V6ONLY, 0)
    if reuse_port:
        set_option(fd, consts.SOL_SOCKET, consts.SO_REUSEPORT, 1)
    set_option(fd, consts.IPPROTO_IPV6, consts.IPV6_MTU_DISCOVER, consts.IP_PMTUDISC_PROBE)
    set_option(fd, consts.IPPROTO_IP, consts.IP_MTU_DISCOVER, consts.IP_PMTUDISC_PROBE)
    set_option(fd, consts.IPPROTO_IP, consts.IP_TOS, tos)
    set_option(fd, consts.IPPROTO_IPV6, consts.IPV6_TCLASS, tos)
    if _bind(fd, pack_addr(ip, port), SOCKADDR_SIZE) < 0:
        code = ffi.errno()
        _close(fd)
        raise NetError("UDP port " + str(port) + " on " + ip + " cannot be bound: " + ffi.reason(code))
    return fd


def open_file(path):
    """A descriptor to read `path` by. Raises NetError."""
    return _check(_open(path.encode() + b"\0", consts.O_CLOEXEC, 0), path)


def buffers(fd, receive, send):
    """Ask for socket buffers of so many bytes; the kernel's limits apply, but not to who may change them. They count
    what a datagram takes in memory: the usual limit of 212,992 bytes, which the kernel doubles, is about 180 cells."""
    if set_option(fd, consts.SOL_SOCKET, consts.SO_RCVBUFFORCE, receive) < 0:
        set_option(fd, consts.SOL_SOCKET, consts.SO_RCVBUF, receive)
    set_option(fd, consts.SOL_SOCKET, consts.SO_SNDBUF, send)


def local_port(fd):
    """The UDP port that the kernel gave."""
    out = bytearray(SOCKADDR_SIZE)
    size = bytearray(struct.pack("I", SOCKADDR_SIZE))
    _check(_getsockname(fd, ffi.addr(out), ffi.addr(size)), "getsockname")
    return out[2] << 8 | out[3]


def sendto(fd, data, sockaddr):
    """Send one datagram; returns False when the kernel would not take it now."""
    return _sendto(fd, bytes(data), len(data), consts.MSG_DONTWAIT, bytes(sockaddr), len(sockaddr)) >= 0


def recvfrom(fd, most=1500):
    """(data, sockaddr) of the next datagram that waits; (None, None) when there is none."""
    data = bytearray(most)
    where = bytearray(SOCKADDR_SIZE)
    size = bytearray(struct.pack("I", SOCKADDR_SIZE))
    n = _recvfrom(fd, ffi.addr(data), most, consts.MSG_DONTWAIT, ffi.addr(where), ffi.addr(size))
    return (bytes(data[:n]), bytes(where)) if n >= 0 else (None, None)


def _unix_addr(path):
    raw = path.encode()
    if len(raw) > 107:
        raise ValueError("socket path longer than 107 bytes: " + path)
    return struct.pack("H", consts.AF_UNIX) + raw + b"\0"


class UnixDatagram:
    """A unix datagram socket bound to `path`, for small control messages and for passing descriptors.

    The file's mode is 0666: the directory that holds it decides who gets in.
    An existing socket file at `path` is replaced: only one process of a kind runs (procd sees to it).
    """

    def __init__(self, path):
        import os

        try:
            os.remove(path)
        except OSError:
            pass
        self.path = path
        self.fd = _check(_socket(consts.AF_UNIX, consts.SOCK_DGRAM | consts.O_CLOEXEC, 0), "unix socket")
        where = _unix_addr(path)
        if _bind(self.fd, where, len(where)) < 0:
            code = ffi.errno()
            _close(self.fd)
            raise NetError("unix socket " + path + " cannot be bound: errno " + str(code))
        _chmod(path.encode() + b"\0", 0o666)
        _fcntl(self.fd, consts.F_SETFL, consts.O_NONBLOCK)
        self._buf = bytearray(65536)
        self._ctl = bytearray(64)

    def _msghdr(self, iov, control):
        return bytearray(
            struct.pack("PIPPPPi", 0, 0, ffi.addr(iov), 1, ffi.addr(control) if control else 0, len(control), 0)
        )

    def send(self, path, data, fd=-1):
        """Send `data`, with a descriptor when `fd` >= 0. False when nobody listens at `path` or its queue is full."""
        where = _unix_addr(path)
        if fd < 0:
            return _sendto(self.fd, data, len(data), consts.MSG_DONTWAIT, where, len(where)) >= 0
        name = bytearray(where)
        body = bytearray(data)
        iov = bytearray(struct.pack("PP", ffi.addr(body), len(body)))
        # struct cmsghdr {size_t len; int level; int type;} then the descriptor, padded to a word.
        control = bytearray(struct.pack("Pii", WORD + 12, consts.SOL_SOCKET, consts.SCM_RIGHTS) + struct.pack("i", fd))
        control += bytes(-len(control) % WORD)
        hdr = bytearray(
            struct.pack("PIPPPPi", ffi.addr(name), len(name), ffi.addr(iov), 1, ffi.addr(control), len(control), 0)
        )
        return _sendmsg(self.fd, ffi.addr(hdr), consts.MSG_DONTWAIT) >= 0

    def recv(self):
        """(data, fd) of the next message, fd -1 without one; (None, -1) when there is none now."""
        iov = bytearray(struct.pack("PP", ffi.addr(self._buf), len(self._buf)))
        hdr = self._msghdr(iov, self._ctl)
        n = _recvmsg(self.fd, ffi.addr(hdr), consts.MSG_DONTWAIT)
        if n < 0:
            return None, -1
        got = struct.unpack("PIPPPPi", hdr)
        fd = -1
        if got[5] >= WORD + 12:
            size, level, kind = struct.unpack_from("Pii", self._ctl, 0)
            if level == consts.SOL_SOCKET and kind == consts.SCM_RIGHTS and size >= WORD + 12:
                fd = struct.unpack_from("i", self._ctl, WORD + 8)[0]
        return bytes(self._buf[:n]), fd

    def close(self):
        import os

        _close(self.fd)
        try:
            os.remove(self.path)
        except OSError:
            pass


def open_tun(name, napi=False):
    """Create or attach the TUN device `name` (no packet information); returns a non-blocking fd. Raises NetError.

    `napi`: what is written passes GRO, if the device's `gro_flush_timeout` lets packets wait for one another. Kernels
    before 4.15 know no such thing and do without.
    """
    if not 0 < len(name) < 16:
        raise ValueError("interface name must have 1..15 characters: " + repr(name))
    fd = _open(b"/dev/net/tun\0", consts.O_RDWR | consts.O_NONBLOCK | consts.O_CLOEXEC, 0)
    _check(fd, "/dev/net/tun (is kmod-tun installed?)")
    request = bytearray(40)
    request[: len(name)] = name.encode()
    request[16:18] = struct.pack("H", consts.IFF_TUN_NO_PI | (consts.IFF_NAPI if napi else 0))
    if _ioctl(fd, consts.TUNSETIFF, ffi.addr(request)) < 0:
        code = ffi.errno()
        _close(fd)
        raise NetError("TUN device " + name + " cannot be made: errno " + str(code))
    return fd


class Poller:
    """poll(2) over a fixed list of descriptors; `ready(i)` after `wait` allocates nothing."""

    def __init__(self, fds):
        from . import arena

        self.count = len(fds)
        self.base = arena.take(8 * max(self.count, 1))
        self._fd = ffi.u32(self.base, 2 * self.count)
        self._ev = ffi.u16(self.base, 4 * self.count)
        for i in range(self.count):
            self.set(i, fds[i])

    def set(self, i, fd, events=consts.POLLIN):
        """Watch `fd` at place `i`; -1 watches nothing there."""
        self._fd[2 * i] = fd & 0xFFFFFFFF
        self._ev[4 * i + 2] = events

    def events(self, i, events):
        self._ev[4 * i + 2] = events

    def wait(self, timeout_ms):
        """Number of ready descriptors; 0 on time-out or a signal."""
        n = POLL(self.base, self.count, timeout_ms)
        if n < 0:
            for i in range(self.count):
                self._ev[4 * i + 3] = 0
            return 0
        return n

    def ready(self, i):
        return self._ev[4 * i + 3]
