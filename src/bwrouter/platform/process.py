"""A second process of the same program, and signals as a descriptor to poll: MicroPython has a module for neither."""

import struct

from . import consts, ffi, net
from .ffi import LIBC, func

_fork = func(LIBC, "i", "fork", "")
_waitpid = func(LIBC, "i", "waitpid", "iPi")
_kill = func(LIBC, "i", "kill", "ii")
_getpid = func(LIBC, "i", "getpid", "")
_getppid = func(LIBC, "i", "getppid", "")
_prctl = func(LIBC, "i", "prctl", "iLLLL")
_exit = func(LIBC, "v", "_exit", "i")
_socketpair = func(LIBC, "i", "socketpair", "iiiP")
_recv = func(LIBC, "l", "recv", "iPLi")
_send = func(LIBC, "l", "send", "iPLi")
_sigemptyset = func(LIBC, "i", "sigemptyset", "P")
_sigaddset = func(LIBC, "i", "sigaddset", "Pi")
_sigprocmask = func(LIBC, "i", "sigprocmask", "iPP")
_signalfd = func(LIBC, "i", "signalfd", "iPi")
_sched_getaffinity = func(LIBC, "i", "sched_getaffinity", "iLP")

INT = 2
KILL = 9
TERM = 15
_SOCK_SEQPACKET = 5
_MSG_NOSIGNAL = 0x4000
_PR_SET_PDEATHSIG = 1
# SIG_BLOCK, SIG_UNBLOCK
_BLOCK, _UNBLOCK = (1, 2) if consts.MIPS else (0, 1)
MESSAGE_MAX = 32768  # bytes of one message between the processes

pid = _getpid


def cores():
    """Processors that this process may run on, at least 1."""
    mask = bytearray(128)
    if _sched_getaffinity(0, len(mask), ffi.addr(mask)) < 0:
        return 1
    return max(1, sum([(byte >> bit) & 1 for byte in mask for bit in range(8)]))


def cpu_ms():
    """CPU time of this process in ms, user and system, in steps of 10 ms (proc(5): stat)."""
    with open("/proc/self/stat") as f:
        words = f.read().split(")")[-1].split()
    return (int(words[11]) + int(words[12])) * 10


def _set(numbers):
    mask = bytearray(128)  # sigset_t of glibc and musl
    _sigemptyset(ffi.addr(mask))
    for number in numbers:
        _sigaddset(ffi.addr(mask), number)
    return mask


class Signals:
    """The given signals, held back from now on and read from `fd` instead."""

    def __init__(self, numbers=(TERM, INT)):
        self._mask = _set(numbers)
        _sigprocmask(_BLOCK, ffi.addr(self._mask), 0)
        self.fd = _signalfd(-1, ffi.addr(self._mask), consts.O_NONBLOCK | consts.O_CLOEXEC)
        if self.fd < 0:
            raise net.NetError("signalfd: errno " + str(ffi.errno()))
        self._buf = bytearray(128)

    def take(self):
        """The number of a signal that came, 0 without one."""
        if net.READ(self.fd, ffi.addr(self._buf), 128) != 128:
            return 0
        return struct.unpack_from("I", self._buf, 0)[0]

    def close(self):
        """Give the signals back their usual effect."""
        net.close(self.fd)
        _sigprocmask(_UNBLOCK, ffi.addr(self._mask), 0)


class Channel:
    """One end of a connection that keeps message boundaries. `open` is False once the other end is gone."""

    def __init__(self, fd):
        self.fd = fd
        self.open = True
        self._buf = bytearray(MESSAGE_MAX)

    def send(self, data):
        """Send bytes of at most MESSAGE_MAX; False when the queue is full or the other end gone."""
        if len(data) > MESSAGE_MAX:
            raise ValueError("message of %d bytes, at most %d" % (len(data), MESSAGE_MAX))
        return _send(self.fd, bytes(data), len(data), consts.MSG_DONTWAIT | _MSG_NOSIGNAL) == len(data)

    def recv(self):
        """The next message, or None when there is none now or the other end is gone."""
        n = _recv(self.fd, ffi.addr(self._buf), MESSAGE_MAX, consts.MSG_DONTWAIT)
        if n > 0:
            return bytes(self._buf[:n])
        if n == 0 or ffi.errno() != consts.EAGAIN:
            self.open = False
        return None

    def close(self):
        net.close(self.fd)
        self.open = False


class Child:
    """A child process that runs `work(channel)` and ends with it; killed by the kernel when this process dies.

    `release`: signals to give back their usual effect in the child. `shut`: descriptors to close in the child.
    """

    def __init__(self, work, release=None, shut=()):
        pair = bytearray(8)
        if _socketpair(consts.AF_UNIX, _SOCK_SEQPACKET | consts.O_CLOEXEC, 0, ffi.addr(pair)) < 0:
            raise net.NetError("socketpair: errno " + str(ffi.errno()))
        ours, theirs = struct.unpack("ii", pair)
        parent = _getpid()
        self.pid = _fork()
        if self.pid < 0:
            code = ffi.errno()
            net.close(ours)
            net.close(theirs)
            raise net.NetError("fork: errno " + str(code))
        if self.pid == 0:
            _run(work, parent, theirs, (ours,) + tuple(shut), release)
        net.close(theirs)
        self.channel = Channel(ours)

    def terminate(self):
        """Ask the child to end (SIGTERM)."""
        if self.pid > 0:
            _kill(self.pid, TERM)

    def stop(self):
        """Kill and collect the child."""
        if self.pid > 0:
            _kill(self.pid, KILL)
            status = bytearray(4)
            _waitpid(self.pid, ffi.addr(status), 0)
            self.pid = -1
        self.channel.close()


def print_error(error):
    """The traceback of a caught exception on standard error."""
    import sys

    if hasattr(sys, "print_exception"):
        sys.print_exception(error, sys.stderr)
    else:
        import traceback

        traceback.print_exception(error)


def _run(work, parent, fd, shut, release):
    """The child's whole life: nothing of it may return into the parent's code."""
    code = 1
    try:
        _prctl(_PR_SET_PDEATHSIG, KILL, 0, 0, 0)
        if _getppid() == parent:
            for other in shut:
                net.close(other)
            if release is not None:
                release.close()
            work(Channel(fd))
            code = 0
    except Exception as error:
        print_error(error)
    except BaseException:
        pass
    finally:
        _exit(code)
