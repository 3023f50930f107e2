"""A line that is typed and not shown: OpenWrt's busybox has no stty, and MicroPython no termios."""

import struct
import sys

from . import ffi

_tcgetattr = ffi.func(ffi.LIBC, "i", "tcgetattr", "iP")
_tcsetattr = ffi.func(ffi.LIBC, "i", "tcsetattr", "iiP")
_LFLAG = 12  # offset of c_lflag in struct termios of musl and glibc, on every CPU
_ECHO = 8
_NOW = 0  # TCSANOW of musl, and of glibc but on MIPS


def interactive():
    """Whether standard input is a terminal."""
    return _tcgetattr(0, ffi.addr(bytearray(128))) == 0


def hidden_line(prompt):
    """A line from standard input without its end; on a terminal after `prompt` and without echo."""
    state = bytearray(128)
    terminal = _tcgetattr(0, ffi.addr(state)) == 0
    if terminal:
        quiet = bytearray(state)
        struct.pack_into("I", quiet, _LFLAG, struct.unpack_from("I", state, _LFLAG)[0] & ~_ECHO)
        _tcsetattr(0, _NOW, ffi.addr(quiet))
        sys.stderr.write(prompt)
    try:
        line = sys.stdin.readline()
    finally:
        if terminal:
            _tcsetattr(0, _NOW, ffi.addr(state))
            sys.stderr.write("\n")
    while line and line[-1] in "\r\n":
        line = line[:-1]
    return line
