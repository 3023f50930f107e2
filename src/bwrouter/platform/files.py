"""Files that survive power cuts: tmp + fsync + rename."""

import os

from . import ffi

_open = ffi.func(ffi.LIBC, "i", "open", "PiI")
_write = ffi.func(ffi.LIBC, "l", "write", "iPL")
_fsync = ffi.func(ffi.LIBC, "i", "fsync", "i")
_close = ffi.func(ffi.LIBC, "i", "close", "i")
_mkdir = ffi.func(ffi.LIBC, "i", "mkdir", "PI")

# O_CREAT and O_TRUNC differ on MIPS.
from .consts import MIPS  # noqa: E402

_FLAGS = 1 | (0x100 if MIPS else 0x40) | 0x200


def _c(path):
    return path.encode() + b"\0"


def write_atomic(path, data, mode=0o600, sync=True):
    """Replace `path` by `data` so that a reader sees the old or the new, never a part. Raises OSError.

    `data` is bytes, or a generator of bytes where the whole would not fit the heap at once.
    """
    parts = (data,) if isinstance(data, (bytes, bytearray)) else data
    tmp = path + ".tmp"
    fd = _open(_c(tmp), _FLAGS, mode)
    if fd < 0:
        raise OSError("cannot write " + tmp + ": " + ffi.reason(ffi.errno()))
    try:
        for part in parts:
            done = 0
            while done < len(part):
                n = _write(fd, part[done:], len(part) - done)
                if n <= 0:
                    raise OSError("cannot write " + tmp + ": " + ffi.reason(ffi.errno()))
                done += n
        if sync and _fsync(fd) < 0:
            raise OSError("cannot sync " + tmp + ": " + ffi.reason(ffi.errno()))
    finally:
        _close(fd)
    os.rename(tmp, path)
    if sync:
        # The name, too: a key that vanishes in a power cut may hold a stake.
        fd = _open(_c(path[: path.rfind("/") + 1] or "."), 0, 0)
        if fd >= 0:
            _fsync(fd)
            _close(fd)


def read(path):
    """The file's bytes, or None when there is none."""
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return None


def remove(path):
    """Remove a file; one that is not there is fine."""
    try:
        os.remove(path)
    except OSError:
        pass


def make_dirs(path, mode=0o755):
    """Make `path` and its parents; existing ones are fine."""
    parts = path.split("/")
    for i in range(2, len(parts) + 1):
        _mkdir(_c("/".join(parts[:i])), mode)
