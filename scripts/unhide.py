"""unhide.py ARCHIVE SYMBOL...: gives symbols default visibility in every ELF object of a static library, in place.

zig's compiler-rt defines memcpy and its kin as hidden. A linker merges visibilities towards the stricter, so a C
library that is linked with it as it is would not export its own memcpy.
"""

import struct
import sys
from pathlib import Path


def members(archive: bytes):
    """Yield offset and size of every member of an ar archive."""
    assert archive[:8] == b"!<arch>\n", "not an ar archive"
    at = 8
    while at + 60 <= len(archive):
        size = int(archive[at + 48 : at + 58])
        yield at + 60, size
        at += 60 + size + (size & 1)


def unhide(image: bytearray, start: int, names: set[bytes]) -> int:
    """Patch the symbol table of the ELF object at `start`; returns how many symbols changed."""
    wide, order = image[start + 4] == 2, "<" if image[start + 5] == 1 else ">"
    sections_at = struct.unpack_from(order + ("Q" if wide else "I"), image, start + (0x28 if wide else 0x20))[0]
    entry, count = struct.unpack_from(order + "HH", image, start + (0x3A if wide else 0x2E))
    section = order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")
    table = [struct.unpack_from(section, image, start + sections_at + i * entry) for i in range(count)]
    changed = 0
    for _, kind, _, _, offset, size, link, _, _, each in table:
        if kind != 2:  # SHT_SYMTAB
            continue
        for symbol in range(start + offset, start + offset + size, each):
            name_at = start + table[link][4] + struct.unpack_from(order + "I", image, symbol)[0]
            other = symbol + (5 if wide else 13)
            if bytes(image[name_at : image.index(0, name_at)]) in names and image[other] & 3:
                image[other] &= ~3
                changed += 1
    return changed


def main(path: str, *names: str) -> None:
    image = bytearray(Path(path).read_bytes())
    wanted = {name.encode() for name in names}
    objects = [start for start, size in members(image) if image[start : start + 4] == b"\x7fELF"]
    changed = sum(unhide(image, start, wanted) for start in objects)
    Path(path).write_bytes(image)
    print(f"{path}: {changed} symbols in {len(objects)} objects")


main(*sys.argv[1:])
