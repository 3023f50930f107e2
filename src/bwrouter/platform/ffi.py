"""Foreign functions, raw memory and errno with one face on MicroPython and CPython.

A pointer is always a plain ``int``. Inputs may also be ``bytes``; outputs are addresses from ``arena`` or
``addr(bytearray)``.
Type letters are MicroPython's: ``i I`` int, ``l L`` long and size_t, ``q Q`` 64 bit, ``P`` pointer, ``v`` void.
"""

import struct
import sys

WORD = struct.calcsize("P")
_LITTLE = sys.byteorder == "little"

try:
    import os as _os

    import ffi as _ffi
    import uctypes as _u

    RUNTIME = "micropython"

    def load(names):
        """Open the first shared library of `names` that exists (None: the C library).

        Raises OSError naming all tried.
        """
        for name in names:
            try:
                return _ffi.open(name)
            except OSError:
                pass
        raise OSError("no shared library found, tried: " + ", ".join(str(n) for n in names))

    def func(lib, ret, name, args):
        """Bind `name` of `lib`. Raises OSError when the symbol is absent."""
        return lib.func(ret, name, args)

    def errno():
        """errno of the last foreign call."""
        return _os.errno()

    addr = _u.addressof

    def u8(address, count):
        """`count` bytes at `address`, writable, as a sequence of ints; slices of it may be passed to ``bytes``."""
        return _u.bytearray_at(address, count)

    def u16(address, count):
        """`count` native 16-bit words at `address`, indexable without allocation."""
        return _u.struct(address, {"a": (_u.ARRAY, _u.UINT16 | count)}).a

    def le16(address, count):
        """`count` little-endian 16-bit words at `address`, indexable without allocation: for fields of the wire."""
        return _u.struct(address, {"a": (_u.ARRAY, _u.UINT16 | count)}, _u.NATIVE if _LITTLE else _u.LITTLE_ENDIAN).a

    def le32(address, count):
        """`count` little-endian 32-bit words at `address`; no allocation as long as they are below 2^30."""
        return _u.struct(address, {"a": (_u.ARRAY, _u.UINT32 | count)}, _u.NATIVE if _LITTLE else _u.LITTLE_ENDIAN).a

    def u32(address, count):
        """`count` native 32-bit words at `address`."""
        return _u.struct(address, {"a": (_u.ARRAY, _u.UINT32 | count)}).a

    def words(address, count):
        """`count` native pointer-sized words at `address`."""
        return _u.struct(address, {"a": (_u.ARRAY, (_u.UINT64 if WORD == 8 else _u.UINT32) | count)}).a

    def peek(address, count):
        """A copy of `count` bytes at `address`."""
        return bytes(_u.bytearray_at(address, count))

    def poke(address, data):
        """Copy `data` to `address`."""
        _u.bytearray_at(address, len(data))[:] = data

except ImportError:
    import ctypes as _c

    RUNTIME = "cpython"
    _TYPES = {
        "i": _c.c_int, "I": _c.c_uint, "l": _c.c_long, "L": _c.c_ulong, "q": _c.c_longlong, "Q": _c.c_ulonglong,
        "P": _c.c_void_p, "v": None,
    }  # fmt: skip

    def load(names):
        """Open the first shared library of `names` that exists (None: the C library).

        Raises OSError naming all tried.
        """
        for name in names:
            try:
                return _c.CDLL(name, use_errno=True)
            except OSError:
                pass
        raise OSError("no shared library found, tried: " + ", ".join(str(n) for n in names))

    def func(lib, ret, name, args):
        """Bind `name` of `lib`. Raises OSError when the symbol is absent."""
        try:
            fn = getattr(lib, name)
        except AttributeError:
            raise OSError("symbol " + name + " not found") from None
        fn = lib[name]  # a private copy: other callers' argtypes must not change ours
        fn.restype = _TYPES[ret]
        fn.argtypes = [_TYPES[a] for a in args]
        return fn

    errno = _c.get_errno

    def addr(buffer):
        """Address of a ``bytearray``; valid as long as the buffer lives and is not resized."""
        return _c.addressof(_c.c_char.from_buffer(buffer))

    def u8(address, count):
        """`count` bytes at `address`, writable, as a sequence of ints; slices of it may be passed to ``bytes``."""
        return memoryview((_c.c_ubyte * count).from_address(address)).cast("B")

    def u16(address, count):
        """`count` native 16-bit words at `address`, indexable without allocation."""
        return u8(address, count * 2).cast("H")

    def le16(address, count):
        """`count` little-endian 16-bit words at `address`: for fields of the wire."""
        if not _LITTLE:
            raise OSError("CPython on a big-endian machine is not supported; use MicroPython")
        return u16(address, count)

    def le32(address, count):
        """`count` little-endian 32-bit words at `address`: for fields of the wire."""
        if not _LITTLE:
            raise OSError("CPython on a big-endian machine is not supported; use MicroPython")
        return u32(address, count)

    def u32(address, count):
        """`count` native 32-bit words at `address`."""
        return u8(address, count * 4).cast("I")

    def words(address, count):
        """`count` native pointer-sized words at `address`."""
        return u8(address, count * WORD).cast("Q" if WORD == 8 else "I")

    peek = _c.string_at

    def poke(address, data):
        """Copy `data` to `address`."""
        _c.memmove(address, bytes(data), len(data))


LIBC = load((None, "libc.so.6", "libc.so"))
_strerror = func(LIBC, "P", "strerror", "i")


def reason(code):
    """What the C library says of an errno, and its number at the end."""
    where, out = _strerror(code), b""
    while len(out) < 80:
        char = peek(where + len(out), 1)
        if char == b"\0":
            break
        out += char
    return out.decode() + ", errno " + str(code)
