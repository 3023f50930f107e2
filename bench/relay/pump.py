"""bench/relay/pump.c through ctypes: traffic that costs little and is made ahead of time."""

from __future__ import annotations

import ctypes as C
import mmap
import os
import socket
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "build/bench/libpump.so"
_SOL_UDP, _UDP_GRO, _SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 17, 104, 33, 32


class Result(C.Structure):
    """Datagrams sent, received and lost; received ones of the right size that are not ours, or of another size."""

    _fields_ = [(n, C.c_uint64) for n in ("sent", "received", "lost", "bad", "other")] + [("seconds", C.c_double)]
    sent: int
    received: int
    lost: int
    bad: int
    other: int
    seconds: float


def _load() -> C.CDLL:
    lib = C.CDLL(str(LIBRARY), use_errno=True)
    p, u32, u64 = C.c_void_p, C.c_uint32, C.c_uint64
    lib.pump_forward.argtypes = [p, u32, u32, u32, C.c_char_p, u64, C.c_char_p]
    lib.pump_backward.argtypes = [p, u32, u32, u32, u32, C.c_char_p, u64, C.c_char_p]
    result = C.POINTER(Result)
    lib.pump_run.argtypes = [C.c_int, C.c_char_p, p, u32, u32, u32, u32, C.c_int, u32, C.c_char_p, u64, result]
    lib.pump_send.argtypes = [C.c_int, C.c_char_p, p, u32, u32]
    lib.pump_drain.argtypes = [C.c_int, u32, C.c_char_p, u64, result]
    lib.pump_aead.argtypes = [u32, u32, C.POINTER(C.c_double), C.POINTER(C.c_double)]
    if lib.pump_init():
        raise OSError("libsodium could not initialise")
    return lib


lib = _load()


class Cells:
    """Memory for `count` datagrams of up to 1472 bytes, end to end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, count * 1472)
        self.address = C.addressof(C.c_char.from_buffer(self._memory))


def sink(sock: socket.socket, gro: bool = True) -> socket.socket:
    """Give a socket large buffers and, as a relay would, GRO."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 16 << 20)
    if gro:
        sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    return sock


def run(
    source: socket.socket, to: bytes, address: int, count: int, size: int, into: socket.socket, out: int,
    result: Result, *, message: int = 32, window: int = 160, obf: bytes | None = None, cid: bytes = b"\0" * 8,
) -> None:  # fmt: skip
    """Send `count` datagrams of `size` bytes, `message` of them a system call, at most `window` under way; count what
    comes out of the subject with `out` bytes. Adds to `result`. Raises OSError."""
    if lib.pump_run(
        source.fileno(), to, address, count, size, message, window, into.fileno(), out, obf,
        int.from_bytes(cid, "little"), C.byref(result),
    ):  # fmt: skip
        raise OSError(C.get_errno(), f"sending: {os.strerror(C.get_errno())}")


def aead(size: int, rounds: int) -> tuple[float, float]:
    """CPU nanoseconds to seal and to open the layer of one cell of `size` bytes."""
    seal, opening = C.c_double(), C.c_double()
    if lib.pump_aead(size, rounds, C.byref(seal), C.byref(opening)):
        raise ValueError(f"no cell has {size} bytes")
    return seal.value, opening.value
